"""How the report looks: one style sheet, light and dark, from a phone to a wide screen. Ours."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2126; --soft: #68707a; --line: #e3e5e8; --grid: #e9ebee;
  --good: #1f8a5b; --bad: #c8443f; --goodwash: #e6f4ec; --badwash: #fbeae9; --fill: #3d6fd6; --reach: #dbe4f7;
  --shadow: 0 1px 2px rgb(20 30 40 / 6%); }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #98a1ab; --line: #2d3339;
  --grid: #2a3036; --good: #58c08d; --bad: #f0817b; --goodwash: #1a3327; --badwash: #3c2322; --fill: #6d97ee; --reach: #2b3a57;
  --shadow: none; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 10px; overflow-wrap: anywhere; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 52px 0 4px; }
h3 { font-size: 15px; margin: 28px 0 10px; display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
h3 small, .lead, .note, figcaption, footer { color: var(--soft); }
h3 small { font-weight: 400; font-size: 13px; }
p { margin: 0 0 12px; max-width: 100ch; }
.lead { font-size: 14px; margin-bottom: 16px; }
.note { background: var(--card); border: 1px dashed var(--line); border-radius: 10px; padding: 12px 16px; font-size: 14px; margin: 12px 0; }
.facts { color: var(--soft); max-width: none; margin-bottom: 18px; }
.facts b { color: var(--ink); font-weight: 600; }
.facts span + span::before { content: "·"; margin: 0 .55em; color: var(--soft); }
.state { font-size: 13px; font-weight: 600; border-radius: 99px; padding: 3px 11px; vertical-align: 6px; margin-left: 12px;
  letter-spacing: 0; white-space: nowrap; color: var(--good); background: var(--goodwash); }
.state.open { color: var(--bad); background: var(--badwash); }
.commands { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 14px; font-size: 13px; align-items: baseline; }
.commands span { color: var(--soft); }
code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.commands code { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 3px 8px; overflow-wrap: anywhere;
  width: fit-content; }
pre { overflow-x: auto; margin: 10px 0 0; }
details { font-size: 14px; margin: 10px 0; }
summary { cursor: pointer; color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow); }

.table { overflow: hidden; margin-top: 14px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 500; font-size: 12.5px; color: var(--soft); text-align: left; padding: 10px 14px 8px; white-space: nowrap; }
td { padding: 11px 14px; border-top: 1px solid var(--line); font-size: 14px; }
th.n, td.n { text-align: right; white-space: nowrap; }
td.name { font-weight: 600; white-space: nowrap; }
td.big { font-weight: 650; font-size: 17px; white-space: nowrap; }
td.big small { font-weight: 400; font-size: 12px; color: var(--soft); }
td.barred { width: 24%; min-width: 150px; }
.bar { position: relative; height: 12px; border-radius: 3px; background: var(--grid); }
.bar i { position: absolute; top: 0; bottom: 0; border-radius: 3px; }
.bar .reach { background: var(--reach); } .bar .got { background: var(--fill); } .bar .under { background: var(--bad); }
.bar .tick { width: 2px; margin-left: -1px; top: -4px; bottom: -4px; border-radius: 1px; background: var(--soft); }
.bar .tick.top { background: var(--ink); }
.parts { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12.5px; color: var(--soft); }
.parts b { color: var(--ink); font-weight: 600; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; margin-top: 14px; }
.charts.three { grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
figure { margin: 0; padding: 14px 16px 8px; min-width: 0; }
figcaption { font-size: 12.5px; } figcaption b { color: var(--ink); font-size: 14px; font-weight: 600; margin-right: 8px; }
.key { margin-left: 12px; white-space: nowrap; }
.key i.dot { width: 9px; height: 9px; border-radius: 50%; vertical-align: 0; }
.key i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px; vertical-align: 3px; }
figure svg { display: block; width: 100%; height: auto; margin-top: 4px; color: var(--soft); }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif !important; }

.routers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 14px; margin-top: 14px; }
.routers figure { padding: 12px 14px; }
.heat { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 8px; margin-top: 8px; }
.heat div { display: grid; grid-auto-rows: 16px; font-size: 11px; line-height: 16px; color: var(--soft); text-align: right; }
.heat img { width: 100%; image-rendering: pixelated; border-radius: 3px; }
.scale { display: flex; align-items: center; gap: 8px; font-size: 12.5px; color: var(--soft); margin-top: 12px; flex-wrap: wrap; }
.scale img { width: 160px; height: 12px; border-radius: 3px; image-rendering: pixelated; }

.shares { display: grid; gap: 2px; margin-top: 10px; font-size: 11px; color: var(--soft); align-items: center;
  grid-template-columns: max-content repeat(var(--n), minmax(0, 1fr)); }
.shares span { padding-right: 6px; text-align: right; white-space: nowrap; }
.shares .head { writing-mode: vertical-rl; transform: rotate(180deg); padding: 4px 0 0; justify-self: center; }
.shares b { font-weight: 500; color: var(--ink); text-align: center; line-height: 26px; border-radius: 3px; background: var(--grid);
  font-variant-numeric: tabular-nums; }
.shares b.self { background: none; color: var(--soft); }
.scale i { width: 160px; height: 12px; border-radius: 3px; }
.peaks { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: 7px 10px; margin: 12px 0 6px; font-size: 11.5px;
  align-items: center; color: var(--soft); }
.peaks > span { text-align: right; white-space: nowrap; }
.peaks b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; text-align: right; }
.key.read i, .key.made i { width: 8px; height: 8px; border: 1.5px solid currentColor; border-radius: 50%; vertical-align: 0; }
.key.made i { background: currentColor; }

.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
.lead.more { margin-top: 10px; }
.samples.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.sample { padding: 12px; display: flex; flex-direction: column; gap: 8px; min-width: 0; }
.sample .pixels { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; border-radius: 6px; align-self: center;
  background: var(--grid); }
.sample .heard { width: 100%; height: 64px; border-radius: 6px; image-rendering: auto; }
.sample audio { width: 100%; height: 34px; }
.sample q { font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; quotes: none; }
.verdict { display: flex; flex-wrap: wrap; gap: 4px; }
.verdict span { font-size: 11.5px; line-height: 1.5; padding: 0 7px; border-radius: 99px; background: var(--goodwash); color: var(--good);
  overflow-wrap: anywhere; }
.verdict span.wrong { background: var(--badwash); color: var(--bad); }
footer { margin-top: 56px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 12.5px; overflow-wrap: anywhere; }

@media (max-width: 760px) {
  main { padding: 24px 14px 48px; } h1 { font-size: 26px; } h2 { margin-top: 40px; }
  .state { vertical-align: 4px; }
  .commands { grid-template-columns: minmax(0, 1fr); }
  thead { display: none; }
  tr { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; padding: 12px 14px; border-top: 1px solid var(--line); }
  tr:first-child { border-top: 0; }
  td, td.n { padding: 0; border: 0; text-align: left; } td.name { width: 100%; } td.barred { flex: 1 1 55%; } td.full { width: 100%; }
  td[data-label]::before { content: attr(data-label) " "; color: var(--soft); font-size: 12.5px; }
  .samples { grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 8px; } .sample { padding: 9px; }
}
"""
