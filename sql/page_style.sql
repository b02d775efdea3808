-- The style of the page.  It stands inside an element of XHTML: no "<", no "&".
--
-- Colours have a contrast of 4.5:1 and more to what they stand on; a status is told by
-- its word and its sign, too.

CREATE FUNCTION leyser.page_style() RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT '
:root { --paper: #ffffff; --soft: #f5f7f9; --line: #d5dbe1; --ink: #1a1f25; --muted: #55606b;
  --kept: #17693a; --risk: #8a4b00; --broken: #b3221a; --attested: #1a5aa8; --plain: #55606b; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --paper: #101418; --soft: #181d23; --line: #323b44; --ink: #e3e7eb; --muted: #a3aeb9;
    --kept: #63cf93; --risk: #f0b35e; --broken: #ff9086; --attested: #8bbaf4; --plain: #a3aeb9; } }
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", "Hiragino Sans", "Noto Sans JP", "Noto Sans CJK JP", "Yu Gothic UI", Meiryo, sans-serif; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(1.5rem, 5vw, 4rem); }
footer { margin-top: 4rem; padding-top: 1rem; padding-bottom: 3rem; color: var(--muted); font-size: .875rem; }
footer p { border-top: 1px solid var(--line); padding-top: 1rem; }
h1, h2, h3 { line-height: 1.35; font-weight: 600; }
h1 { margin: 0 0 1rem; font-size: clamp(1.75rem, 5vw, 2.5rem); letter-spacing: -.01em; }
h2 { margin: 3.5rem 0 1rem; font-size: 1.5rem; }
h3 { margin: 0; font-size: 1.0625rem; }
p { margin: 0 0 .75rem; max-width: 44rem; }
a { color: var(--attested); text-underline-offset: .2em; }
a:focus-visible { outline: 3px solid var(--attested); outline-offset: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; padding: .5rem 1rem; background: var(--paper); }
.muted, .small { color: var(--muted); font-size: .875rem; }
.no { color: var(--muted); font-variant-numeric: tabular-nums; font-weight: 400; }
.caution { border-left: 4px solid var(--broken); padding-left: .75rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 1.5rem 0 0; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.sign { width: 1em; height: 1em; flex: none; vertical-align: -.125em; }
.status { display: inline-flex; align-items: baseline; gap: .4em; font-weight: 600; font-size: .9375rem; }
.status .sign { align-self: center; }
.kept, .verified, .complete { color: var(--kept); }
.risk, .running, .failed { color: var(--risk); }
.broken, .missed { color: var(--broken); }
.attested { color: var(--attested); }
.declared, .outside, .gone, .open { color: var(--plain); }
table { width: 100%; border-collapse: collapse; margin: 1.5rem 0 0; font-size: .9375rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .5rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem .5rem 0; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 400; font-size: .875rem; }
tbody th { font-weight: 400; }
td, tbody th, dd, pre { overflow-wrap: anywhere; }
h1, h2, h3, figcaption, caption { word-break: auto-phrase; }
thead th, dt, .status { word-break: keep-all; }
.line { white-space: nowrap; }
.links a { display: inline-block; margin-right: .75rem; }
.more { margin: .5rem 0 0; color: var(--muted); }
dl.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1.25rem 1rem; margin: 0; }
dl.figures dt { color: var(--muted); font-size: .875rem; line-height: 1.35; }
dl.figures dd { margin: .125rem 0 0; font-size: 1.125rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
dl.figures div { display: flex; flex-direction: column; justify-content: space-between; border-top: 1px solid var(--line); padding-top: .5rem; }
article { border-top: 1px solid var(--line); padding: 1.5rem 0; }
article h3, p.status { margin: 0 0 .5rem; }
p.status { display: block; }
article dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem 1.5rem; margin: .25rem 0 0; font-size: .9375rem; }
article dt { color: var(--muted); font-size: .875rem; }
article dd { margin: 0; max-width: 44rem; }
.wide { grid-column: 1 / -1; }
pre { margin: .25rem 0 0; padding: .75rem; background: var(--soft); white-space: pre-wrap;
  font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
figure { margin: 2rem 0 0; }
figcaption { font-weight: 600; padding-bottom: .5rem; }
.days { display: block; width: 100%; max-width: 30rem; height: auto; }
.days text { font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.days rect { fill: var(--soft); stroke: var(--line); }
.days .missed rect { fill: none; stroke: var(--broken); stroke-width: 1.5; stroke-dasharray: 3 2; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0 0; padding: 0; list-style: none; font-size: .875rem; }
@media (min-width: 44rem) {
  article { display: grid; grid-template-columns: 3.5rem minmax(0, 1fr) max-content; gap: 0 1.5rem; padding: 1.75rem 0; }
  article h3 { grid-column: 1 / 3; display: grid; grid-template-columns: subgrid; }
  p.status { grid-column: 3; text-align: right; }
  article dl { grid-column: 2 / -1; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); } }
@media print {
  @page { margin: 18mm 16mm; }
  html { font-size: 9pt; }
  body { line-height: 1.5; }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  header { padding-top: 0; }
  nav, .skip { display: none; }
  h2 { margin-top: 2rem; break-after: avoid; }
  h3, caption, figcaption, thead { break-after: avoid; }
  tbody tr:first-child { break-before: avoid; }
  article, figure, tr, dl.figures, #statuses, #findings-by-severity { break-inside: avoid; }
  thead { display: table-header-group; }
  article { padding: 1rem 0; }
  article dl { grid-template-columns: repeat(3, 1fr); }
  pre { border: 1px solid var(--line); }
  a { color: inherit; text-decoration: none; } }
' $$;
REVOKE ALL ON FUNCTION leyser.page_style() FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_style() IS 'internal: the style sheet of white_paper_html()';
