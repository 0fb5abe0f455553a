// Growth curves as SVG: panels above each other, all over the number of mappings (logarithmic).

export type Series = { readonly name: string; readonly points: readonly (readonly [number, number])[] }
export type Panel = { readonly title: string; readonly unit: string; readonly series: readonly Series[] }

const WIDTH = 760
const PANEL = 260
const LEFT = 80
const RIGHT = 190
const TOP = 50
const BOTTOM = 36
const COLOURS = ['#1b6ca8', '#c8553d', '#588157', '#7b2cbf']

export function plot(title: string, panels: readonly Panel[]): string {
  const height = 30 + panels.length * PANEL
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`,
    ' font-family="sans-serif" font-size="12" fill="#222">',
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    text(LEFT, 22, title, 'font-size="15"'),
    ...panels.map((panel, i) => `<g transform="translate(0 ${30 + i * PANEL})">${drawPanel(panel)}</g>`),
    '</svg>\n',
  ].join('\n')
}

function drawPanel({ title, unit, series }: Panel): string {
  const points = series.flatMap((each) => each.points)
  const sizes = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b)
  const top = roundUp(Math.max(...points.map(([, y]) => y), 1e-9))
  const [low, high] = [Math.log(sizes[0] ?? 1), Math.log(sizes.at(-1) ?? 10)]
  const span = high - low || 1
  const x = (size: number): number => LEFT + ((Math.log(size) - low) / span) * (WIDTH - LEFT - RIGHT)
  const y = (value: number): number => PANEL - BOTTOM - (value / top) * (PANEL - TOP - BOTTOM)
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(top * part)
    const line = `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" stroke="#ddd"/>`
    return line + text(LEFT - 8, at + 4, short(top * part), 'text-anchor="end"')
  })
  const ticks = sizes.map((size) => text(x(size), PANEL - BOTTOM + 18, short(size), 'text-anchor="middle"'))
  const lines = series.map(({ name, points: of }, i) => {
    const colour = COLOURS[i % COLOURS.length]
    const path = of.map(([size, value]) => `${x(size).toFixed(1)},${y(value).toFixed(1)}`)
    const dots = path.map(
      (at) => `<circle cx="${at.split(',')[0]}" cy="${at.split(',')[1]}" r="3" fill="${colour}"/>`,
    )
    return [
      `<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...dots,
      text(WIDTH - RIGHT + 16, TOP + 12 + i * 18, name, `fill="${colour}"`),
    ].join('')
  })
  return [text(LEFT, TOP - 14, `${title} (${unit})`, 'font-weight="bold"'), ...grid, ...ticks, ...lines].join(
    '\n',
  )
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped(content)}</text>`
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

/** The next of some round numbers times a power of ten. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return power * ([1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) ?? 10)
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  if (value >= 1e3) return `${Number((value / 1e3).toPrecision(3))}k`
  return String(Number(value.toPrecision(3)))
}
