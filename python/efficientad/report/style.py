"""What the report's page looks like."""

from __future__ import annotations

from efficientad.pictures import ANOMALOUS_COLOUR, NORMAL_COLOUR, colour_map_css

STYLE = f"""
:root {{ --normal: rgb{NORMAL_COLOUR}; --anomalous: rgb{ANOMALOUS_COLOUR};
  --ink: #1c1f24; --quiet: #5b626d; --line: #dfe3e8; }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0; color: var(--ink); background: #f4f6f8; }}
main {{ max-width: 78rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }}
h1 {{ font-size: 1.5rem; font-weight: 600; margin: 0 0 1.2rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; font-weight: 600; margin: 2.4rem 0 .8rem; }}
h3 {{ font-size: 1rem; font-weight: 600; margin: 1.8rem 0 .6rem; }}
h3 small {{ font-weight: 400; }}
figure {{ margin: 0; }}
figcaption, small {{ color: var(--quiet); font-size: .82rem; }}
.panel {{ background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.headlines .panel {{ flex: 1 1 11rem; padding: .8rem 1rem; }}
.headlines b {{ display: block; font-size: 1.75rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }}
.charts .panel {{ flex: 1 1 21rem; max-width: 28rem; }}
.charts svg {{ display: block; width: 100%; margin: .4rem 0; }}
.charts b {{ font-weight: 600; }}
.figures .panel {{ flex: 1 1 19rem; }}
svg text {{ font: 11px system-ui, sans-serif; fill: var(--quiet); }}
svg .grid {{ stroke: var(--line); fill: none; }}
svg .curve {{ stroke: var(--normal); stroke-width: 2; fill: none; }}
svg .mark {{ fill: var(--anomalous); stroke: #fff; stroke-width: 1.5; }}
svg .normal, svg .anomalous {{ fill-opacity: .5; }}
svg .normal {{ fill: var(--normal); }}
svg .anomalous {{ fill: var(--anomalous); }}
svg .threshold {{ stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }}
i.normal, i.anomalous {{ display: inline-block; width: .7rem; height: .7rem; opacity: .65; }}
i.normal {{ background: var(--normal); }}
i.anomalous {{ background: var(--anomalous); }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line) }}
tr:first-child td {{ border-top: 0; }}
td:last-child {{ padding-right: 0; }}
td.number {{ font-variant-numeric: tabular-nums; text-align: right; }}
.scale {{ width: 22rem; max-width: 100%; }}
.scale div {{ height: .8rem; border-radius: .2rem; background: {colour_map_css()}; }}
.scale p {{ display: grid; grid-template-columns: 1fr auto 1fr; margin: .2rem 0 0; }}
.scale small:last-child {{ text-align: right; }}
article {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: .7rem 0; background: #fff;
  border: 1px solid var(--line); border-left: .35rem solid #a9b1bb; border-radius: .5rem;
  padding: .8rem 1rem; break-inside: avoid; }}
article.false-reject {{ border-left-color: var(--normal); }}
article.miss {{ border-left-color: var(--anomalous); }}
article > div:first-child {{ flex: 1 1 12rem; min-width: 11rem; overflow-wrap: anywhere; }}
article b {{ font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
article p {{ margin: 0 0 .3rem; }}
.verdict {{ font-weight: 600; }}
.verdict.normal {{ color: var(--normal); }}
.verdict.anomalous {{ color: var(--anomalous); }}
.pictures {{ display: flex; flex-wrap: wrap; gap: .5rem; flex: 0 1 57.5rem; }}
.pictures figure {{ width: 176px; }}
.pictures img {{ display: block; }}
"""
