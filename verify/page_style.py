"""The look of the report: its style sheet, how a verdict is shown, how plain text becomes HTML."""

from __future__ import annotations

import re
from html import escape

from verify import plots

SIGN = {"holds": "&#10003;", "fails": "&#10007;", "undecided": "?", "invalid": "!"}
"""Of a verdict; read with its word, so that colour is never needed."""

CSS = f"""
{plots.palette()}""" + """
* { box-sizing: border-box; }
html { scroll-padding-top: 3rem; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; max-width: 46rem; margin: .5rem 0 1rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .75rem; } nav h2 { margin-top: 2rem; }
h3 { font-size: 1.15rem; margin: 3rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--grid); }
h4 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
header > p, section > p, section > ul, dl, figcaption { max-width: 46rem; }
a { color: var(--series-1); text-underline-offset: .15em; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: var(--panel); padding: .75rem; overflow-x: auto; }
.summary { font-size: 1.25rem; font-weight: 600; margin: 0; }
.quiet, figcaption { color: var(--muted); font-size: .9rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.verdict { font-weight: 600; white-space: nowrap; } .holds { color: var(--holds); }
.fails { color: var(--fails); } .undecided { color: var(--undecided); } .invalid { color: var(--invalid); }
.count { font-size: .9rem; } .count .verdict { font-weight: 500; margin-left: .35rem; }
p > .count .verdict:first-child { margin-left: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; } .legend { font-size: .9rem; }
nav { background: var(--panel); padding: .1rem 1.1rem 1.1rem; margin-top: 2rem; } nav h2 { margin: .9rem 0 .5rem;
  font-size: 1rem; }
nav ul { columns: 19rem; column-gap: 2rem; list-style: none; margin: 0; padding: 0; }
nav li { break-inside: avoid; padding: .12rem 0 .12rem .6rem; border-left: 3px solid transparent; }
nav li.flagged { border-left-color: var(--fails); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .7rem .5rem 0; border-bottom: 1px solid var(--grid); }
th p, td p { margin: 0; } tbody th { font-weight: normal; }
thead th { position: sticky; top: 0; background: var(--paper); color: var(--muted); font-weight: 600;
  font-size: .9rem; z-index: 1; }
.group th { padding-top: 1.6rem; font-weight: 600; border-bottom: 2px solid var(--muted); }
.figure { font-variant-numeric: tabular-nums; } .verdicts .figure { white-space: nowrap; }
.verdicts tbody th[scope=row] { width: 46%; } .verdicts td:last-child { width: 20%; }
.evidence { margin: 1rem 0 .6rem; } .evidence th[scope=row] { width: 31%; } .evidence td:last-child { width: 29%; }
.evidence td[data-label=margin] { width: 15%; }
.range { white-space: nowrap; } .evidence .range { display: block; }
tr:target { background: var(--panel); } .why { font-weight: 600; }
figure { margin: 1rem 0; } .scroll { overflow-x: auto; position: relative; }
figcaption { margin-top: .3rem; }
svg { width: 100%; min-width: 34rem; max-width: 56rem; height: auto; display: block; overflow: visible; }
svg text { font-family: inherit !important; }
.matrix { width: auto; font-size: .85rem; } .matrix td { text-align: center; padding: .25rem .45rem; }
.matrix thead th { position: static; vertical-align: bottom; padding: .3rem .45rem; }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 500; }
.matrix tbody th { min-width: 16rem; max-width: 26rem; padding: .35rem .9rem .35rem 0; }
.matrix thead th:first-child { padding-left: 0; }
.due { background: var(--panel); outline: 1px solid var(--muted); outline-offset: -2px; }
@media screen and (max-width: 44rem) {
  thead { position: absolute; left: -100vw; } .matrix thead { position: static; }
  .verdicts, .evidence, .stacked { display: block; }
  :is(.verdicts, .evidence) :is(tbody, tr, td, th) { display: block; border: 0; padding: .1rem 0; max-width: none; }
  :is(.verdicts, .evidence) tbody :is(td, td:last-child, td[data-label], th[scope=row]) { width: auto;
    white-space: normal; }
  :is(.verdicts, .evidence) tr { border-bottom: 1px solid var(--grid); padding: .7rem 0; }
  .verdicts .group { border-bottom: 2px solid var(--muted); padding-top: 1.6rem; }
  :is(.verdicts, .evidence) td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
  .matrix tbody th { min-width: 12rem; }
  .evidence .range { display: inline; }
  dl:not(.legend) { grid-template-columns: minmax(0, 1fr); } dd { margin-bottom: .4rem; } }
@media print {
  @page { margin: 16mm 14mm; }
  html { font-size: 9pt; } body { max-width: none; padding: 0; } nav { display: none; }
  a { color: inherit; text-decoration: none; } a[href="#verdicts"] { display: none; }
  h2, h3, h4, h3 + p, .group, thead { break-after: avoid; } tr, figure, .legend { break-inside: avoid; }
  thead { display: table-header-group; } thead th { position: static; }
  .scroll { overflow: visible; } svg { min-width: 0; max-width: 100%; }
  .matrix tbody th { min-width: 0; } pre { white-space: pre-wrap; } }
"""


def badge(verdict: str, words: str = "") -> str:
    """Show a verdict as sign and word.

    Parameters
    ----------
    verdict : str
        One of the four.
    words : str
        In place of the verdict's name.

    Returns
    -------
    str
    """
    sign = f'<span aria-hidden="true">{SIGN[verdict]}</span>'
    return f'<span class="verdict {verdict}">{sign} {escape(words or verdict)}</span>'


def typeset(text: str) -> str:
    """Turn plain text into HTML: relations as signs, words between backquotes as code.

    Parameters
    ----------
    text : str
        As claims and findings write it. Powers keep their caret, so that a copied 2^10 does not become 210.

    Returns
    -------
    str

    Examples
    --------
    >>> typeset("``G`` <= 1 & within +-0.02")
    '<code>G</code> \u2264 1 &amp; within \u00b10.02'
    """
    plain = escape(text, quote=False).replace("&lt;=", "\u2264").replace("&gt;=", "\u2265").replace("+-", "\u00b1")
    return re.sub(r"(`+)([^`]+)\1", r"<code>\2</code>", plain)
