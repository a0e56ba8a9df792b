"""What the page of `tokenizer eval` adds to the look of the reports. Ours."""

LOOK = """
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); margin-top: 14px; overflow: hidden; }
.tiles div { padding: 14px 16px; display: flex; flex-direction: column; box-shadow: 1px 0 0 var(--line), 0 1px 0 var(--line); }
.tiles b { font-size: 22px; font-weight: 650; letter-spacing: -.01em; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles b small { font-size: 12.5px; font-weight: 450; color: var(--soft); letter-spacing: 0; margin-left: 4px; }
.tiles span { font-size: 12.5px; color: var(--soft); }
tr.ours td { background: color-mix(in srgb, var(--reach) 38%, transparent); }
tr.part td { color: var(--soft); } tr.part td.name { font-weight: 450; padding-left: 30px; }
td.name small { font-weight: 400; white-space: normal; color: var(--soft); margin-left: 8px; font-size: 12px; }
td.n.best { font-weight: 650; }
.used .heat { grid-template-columns: max-content minmax(0, 1fr) max-content; }
.used .heat div { grid-auto-rows: 22px; line-height: 22px; }
.used .heat img { height: 100%; }
.used .heat div.right { text-align: left; }
.levels { display: grid; gap: 5px; margin: 12px 0 8px; font-size: 12.5px; color: var(--soft); }
.levels span { margin-bottom: 9px; } .levels b { color: var(--ink); font-weight: 600; margin-right: 8px; }
.pairs { display: grid; gap: 14px; align-items: start; grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
.pairs.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); }
.pair { padding: 14px; min-width: 0; }
.pair > header { display: flex; gap: 4px 12px; justify-content: space-between; font-size: 12.5px; color: var(--soft); margin-bottom: 10px;
  flex-wrap: wrap; overflow-wrap: anywhere; }
.pair > header b { color: var(--ink); font-weight: 600; }
.views { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 8px; }
.view, .step { display: block; min-width: 0; outline: none; }
.view img, .view video, .step img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--grid); }
.pixelated img, .pixelated video { image-rendering: pixelated; }
.view span, .step span { display: block; font-size: 11.5px; line-height: 1.35; color: var(--soft); margin-top: 5px; }
.view span b { color: var(--ink); font-weight: 600; }
.view[tabindex] { cursor: zoom-in; }
.view[tabindex]:focus { position: fixed; inset: 0; z-index: 9; display: flex; flex-direction: column; align-items: center;
  justify-content: center; gap: 8px; background: color-mix(in srgb, var(--paper) 94%, transparent); padding: 20px; cursor: zoom-out; }
.view[tabindex]:focus img { width: min(94vw, 94vh); max-height: 88vh; object-fit: contain; background: none; }
.view[tabindex]:focus-visible img { box-shadow: 0 0 0 2px var(--fill); }
.view[tabindex]:focus span { font-size: 14px; }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 5px; margin-top: 12px; }
.strip img { border-radius: 4px; }
.ears { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 180px), 1fr)); }
.ear { min-width: 0; } .ear img { display: block; width: 100%; height: 84px; border-radius: 6px; background: var(--grid); }
.ear audio { display: block; width: 100%; height: 32px; margin-top: 6px; }
.ear span { display: block; font-size: 11.5px; color: var(--soft); margin-top: 5px; } .ear span b { color: var(--ink); font-weight: 600; }
.tokens { padding: 14px; line-height: 2; font-size: 13px; overflow-wrap: anywhere; }
.tokens i { font-style: normal; white-space: pre-wrap; border-radius: 4px; padding: 2px 1px; margin-right: 1px; }
.tokens i:nth-of-type(4n + 1) { background: rgb(79 111 216 / 20%); } .tokens i:nth-of-type(4n + 2) { background: rgb(18 152 138 / 20%); }
.tokens i:nth-of-type(4n + 3) { background: rgb(214 125 44 / 22%); } .tokens i:nth-of-type(4n) { background: rgb(164 86 143 / 20%); }
.tokens small { display: block; color: var(--soft); line-height: 1.4; margin-bottom: 6px; }
.rejects { font-size: 13.5px; padding-left: 20px; } .rejects li { margin: 4px 0; overflow-wrap: anywhere; }
footer dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; font-size: 13px; }
footer dt { color: var(--ink); font-weight: 600; } footer dd { margin: 0; }
@media (max-width: 760px) { tr.part td.name { padding-left: 14px; } .pair { padding: 10px; } .views { gap: 5px; }
  .tiles b { font-size: 19px; } footer dl { grid-template-columns: minmax(0, 1fr); } }
"""
