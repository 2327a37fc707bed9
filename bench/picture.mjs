// A result as a picture: how near each engine comes to the machine's limits, as bars.
import { number, plural } from "./tables.mjs";

const width = 860;
const left = 230; // where bars begin
const bar = 14;
const gap = 8;
const colors = ["#2f6f4f", "#b9770e", "#5b6b8c", "#8c5b6b"];

const escape = (text) => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);
const text = (x, y, words, more = "") => `<text x="${x}" y="${y}"${more}>${escape(words)}</text>`;

/** One figure: a bar for each engine that has it, its length the share of the floor. */
function bars({ name, engines }, names, top) {
  const scale = width - left - 190;
  const lines = names.map((engine, i) => {
    if (engines[engine] === undefined) return "";
    const { value, share, settings } = engines[engine];
    const y = top + i * bar;
    const length = Math.max(1, Math.min(1, share) * scale).toFixed(1);
    const label = `${number(value)} tokens/s, ${Math.round(100 * share)}%, ${plural(settings.threads, "thread")}`;
    return (
      `<rect x="${left}" y="${y}" width="${length}" height="${bar - 2}" fill="${colors[i]}"/>` +
      text(left + Number(length) + 6, y + bar - 4, label)
    );
  });
  return text(left - 8, top + bar - 4, name, ' text-anchor="end"') + lines.join("");
}

/** An SVG of a machine's models, self-contained, for light and dark backgrounds. */
export function picture({ machine, models }) {
  const names = [
    ...new Set(models.flatMap(({ figures }) => figures.flatMap(({ engines }) => Object.keys(engines)))),
  ];
  const body = [];
  let top = 46;
  for (const { file, figures } of models) {
    body.push(text(8, top + 12, file, ' font-weight="bold"'));
    top += 24;
    for (const figure of figures.filter(({ unit }) => unit === "tokens/s")) {
      body.push(bars(figure, names, top));
      top += names.length * bar + gap;
    }
    top += gap;
  }
  const legend = names.map(
    (name, i) =>
      `<rect x="${left + i * 150}" y="26" width="10" height="10" fill="${colors[i]}"/>` +
      text(left + 15 + i * 150, 35, name),
  );
  const title = `Share of what the machine allows: ${machine.processor}, ${machine.cores} cores`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${width}" height="${top}" font-family="sans-serif" font-size="11" role="img">
<title>${escape(title)}</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<g fill="#222222">
${text(8, 16, title, ' font-size="13"')}
${legend.join("\n")}
${body.join("\n")}
</g>
</svg>
`;
}
