"""What the page of `data inspect` adds to the look of the reports. Ours."""

LOOK = """
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); margin-top: 4px; overflow: hidden; }
.tiles div { padding: 14px 16px; display: flex; flex-direction: column;
  box-shadow: 1px 0 0 var(--line), 0 1px 0 var(--line); }
.tiles b { font-size: 20px; font-weight: 650; letter-spacing: -.01em; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles span { font-size: 12.5px; color: var(--soft); }
.ranked td.barred { width: 44%; } .ranked td.n { width: 92px; }
td.name.wrap { white-space: normal; overflow-wrap: anywhere; max-width: 46ch; }
.charts.hist { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.sample.doc { gap: 10px; }
.sample .shown { max-width: 100%; max-height: 190px; align-self: center; border-radius: 6px; background: var(--grid); }
.sample .shown.tiny { width: 96px; image-rendering: pixelated; }
.sample p { margin: 0; font-size: 13px; line-height: 1.4; overflow-wrap: anywhere; white-space: pre-line; }
.sample small { color: var(--soft); font-size: 11.5px; overflow-wrap: anywhere; margin-top: auto; }
.sample .attributes { color: var(--soft); font-size: 11.5px; overflow-wrap: anywhere; }
.samples.docs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr)); }
@media (max-width: 760px) { .ranked td.n, .ranked td.barred { width: auto; }
  .tiles div { padding: 10px 14px; } .tiles b { font-size: 18px; } }
"""
