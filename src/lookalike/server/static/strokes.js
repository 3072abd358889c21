// Drawings as strokes, as `lookalike.images.strokes` has them: their JSON, and their shape on a canvas.
//
// A stroke is `{points: [[x, y, pressure], …], size, eraser}`. The sides of the canvas have the length 1000, and y points down.

export const CANVAS = 1000;

const INK = "#000";
const PAPER = "#fff";
const STEP = 8; // distance of two samples of a curve
const MOST_STEPS = 16; // between two points

/** Return the JSON of a drawing, with a tenth of a unit and a hundredth of the pressure. */
export function toJson(strokes) {
  const places = [10, 10, 100];
  const rounded = (point) => point.map((value, i) => Math.round(value * places[i]) / places[i]);
  return JSON.stringify({
    strokes: strokes.map(({ points, size, eraser }) => ({ points: points.map(rounded), size, eraser })),
  });
}

/** Read the strokes of a drawing from JSON. Throws an error if it is not one; the server checks its limits. */
export function fromJson(text) {
  const { strokes } = JSON.parse(text);
  return strokes.map(({ points, size = 8, eraser = false }) => {
    const fine = points.length && points.every((point) => point.length === 3 && point.every(Number.isFinite)) && size > 0;
    if (!fine) throw new Error("not a drawing");
    return { points, size, eraser: Boolean(eraser) };
  });
}

/** Draw a stroke on a canvas whose sides have `side` pixels. */
export function paintStroke(paint, { points, size, eraser }, side) {
  const scale = side / CANVAS;
  const curve = sample(points).map(([x, y, pressure]) => [x * scale, y * scale, ((0.5 + pressure) * size * scale) / 2]);
  // All shapes run clockwise, so that one fill paints their union.
  const path = new Path2D();
  curve.forEach(([x, y, radius], i) => {
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
    if (i === 0) return;
    const [fromX, fromY, fromRadius] = curve[i - 1];
    const length = Math.hypot(x - fromX, y - fromY);
    if (length === 0) return;
    const [acrossX, acrossY] = [(fromY - y) / length, (x - fromX) / length];
    path.moveTo(fromX - acrossX * fromRadius, fromY - acrossY * fromRadius);
    path.lineTo(x - acrossX * radius, y - acrossY * radius);
    path.lineTo(x + acrossX * radius, y + acrossY * radius);
    path.lineTo(fromX + acrossX * fromRadius, fromY + acrossY * fromRadius);
    path.closePath();
  });
  paint.fillStyle = eraser ? PAPER : INK;
  paint.fill(path);
}

/** Return points on a smooth curve: quadratic Bézier curves from middle to middle, controlled by the points between. */
function sample(points) {
  const curve = [points[0]];
  let start = points[0];
  for (let i = 1; i < points.length; i++) {
    const control = points[i - 1];
    const end = control.map((value, axis) => (value + points[i][axis]) / 2);
    const length = Math.hypot(end[0] - start[0], end[1] - start[1]);
    const steps = Math.min(Math.max(Math.ceil(length / STEP), 1), MOST_STEPS);
    for (let step = 1; step <= steps; step++) {
      const t = step / steps;
      const from = start;
      curve.push(control.map((value, axis) => (1 - t) ** 2 * from[axis] + 2 * t * (1 - t) * value + t ** 2 * end[axis]));
    }
    start = end;
  }
  curve.push(points.at(-1));
  return curve;
}
