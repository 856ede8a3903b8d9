// SPDX-License-Identifier: Apache-2.0
// The style sheet of reports: light, one column on a phone, no external fonts.
#pragma once

namespace plural::eval {

inline constexpr char kReportStyle[] = R"css(
:root{--ink:#1d2330;--soft:#5b6472;--line:#dfe3ea;--paper:#fff;--wash:#f6f7f9}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.25rem;margin:40px 0 6px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:24px 0 6px}
p{margin:6px 0;max-width:75ch}
.soft,.note{color:var(--soft)}.note{font-size:.875rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--wash);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:1.1rem;white-space:nowrap;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{font-size:.875rem;color:var(--soft)}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:16px 24px}
figure{margin:12px 0 0;min-width:0}
figcaption{font-weight:600;font-size:.95rem}
figure>svg{display:block;width:100%;max-width:520px;height:auto}
.legend{font-size:.8125rem;color:var(--soft);margin:2px 0}
.key{display:inline-block;margin-right:12px}.key svg{margin-right:5px;vertical-align:middle}
.tick,.label{font:11px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}
.grid{stroke:#e8ebf0}.axis{stroke:#9aa3b1}.diagonal{stroke:#9aa3b1;stroke-dasharray:4 4}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.faint{stroke-width:1;opacity:.3}.dashed{stroke-dasharray:5 5}
.c0{stroke:#2563c9}.c1{stroke:#c2570c}.c2{stroke:#14804a}.c3{stroke:#7a3fc4}.c4{stroke:#b0233f}.c5{stroke:#566072}
.dot{stroke:#fff;stroke-width:1.5}.bar{stroke:none;opacity:.35}
.dot.c0,.bar.c0{fill:#2563c9}.dot.c1,.bar.c1{fill:#c2570c}.dot.c2,.bar.c2{fill:#14804a}.dot.c3,.bar.c3{fill:#7a3fc4}.dot.c4,.bar.c4{fill:#b0233f}.dot.c5,.bar.c5{fill:#566072}
.dot[class]{stroke:#fff}
.bar.full{opacity:.85}.count{font:10px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}
.whisker{fill:none;stroke-width:1.25;opacity:.65}
.scroll{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9375rem}
th,td{padding:7px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:.8125rem;vertical-align:bottom;white-space:normal;min-width:4em}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);white-space:normal;min-width:9em}
.best{font-weight:700}
td small{display:block;font-weight:400;font-size:.75rem;color:var(--soft)}
.sample{border:1px solid var(--line);border-radius:10px;padding:12px 14px;margin:14px 0}
.sample h3{margin:0 0 4px}
.who{font-size:.8125rem;font-weight:600;color:var(--soft);margin:12px 0 2px}
pre{margin:0;font:13px/1.6 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.completion{background:var(--wash);border-radius:8px;padding:8px 10px}
mark{border-radius:4px;padding:1px 3px;color:inherit}
mark.hit{background:#c9efd8;box-shadow:inset 0 -2px #14804a}
mark.again{background:#fdeab8;box-shadow:inset 0 -2px #b7860b}
mark.miss{background:#f8d9dc;box-shadow:inset 0 -2px #b0233f}
mark.stated{background:#dbe6fa;box-shadow:inset 0 -2px #2563c9}
details{margin-top:10px}summary{cursor:pointer;color:var(--soft)}
@media(max-width:480px){main{padding:16px 14px 48px}h1{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:1.02rem}th,td{padding:6px 7px}
th:first-child,td:first-child{min-width:7.5em}}
)css";

}  // namespace plural::eval
