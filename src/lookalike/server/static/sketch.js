// The drawing board: strokes on a canvas, stored as points so that they can be undone and fitted to the frame.

const INK = "#1d1a22";
const SIDE = 512;
// In the images that encoders learn from, a product fills this share of the frame. A drawing is scaled to it, within limits.
const FILL = 0.78;
const SCALES = [0.7, 4];

/** Let the user draw on a canvas. Calls `began` before each stroke, and `changed` after each stroke, undo and clear. */
export function drawingBoard(canvas, { began, changed }) {
  const paint = canvas.getContext("2d");
  let strokes = [];
  let current = null;
  let width = 6;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || current) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    began();
    current = { pointer: event.pointerId, width, points: [at(event)] };
    strokes.push(current);
    draw(paint, strokes);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== current?.pointer) return;
    // A pen reports several points between two frames.
    const events = event.getCoalescedEvents?.() ?? [];
    current.points.push(...(events.length ? events : [event]).map(at));
    draw(paint, strokes);
  });
  const endStroke = (event) => {
    if (event.pointerId !== current?.pointer) return;
    current = null;
    changed();
  };
  canvas.addEventListener("pointerup", endStroke);
  canvas.addEventListener("pointercancel", endStroke);

  const board = {
    get empty() {
      return strokes.length === 0;
    },
    get drawing() {
      return current !== null;
    },
    /** The strokes as data that a browser can store. */
    get strokes() {
      return strokes.map(({ bitmap, ...stroke }) => stroke);
    },
    set width(value) {
      width = value;
    },
    undo() {
      strokes = strokes.slice(0, -1);
      draw(paint, strokes);
      changed();
    },
    clear() {
      strokes = [];
      draw(paint, strokes);
      changed();
    },
    /** Replace the strokes with a drawing from a file. */
    async load(file) {
      strokes = [{ file, bitmap: await createImageBitmap(file) }];
      draw(paint, strokes);
      changed();
    },
    /** Show other strokes, without a call of `changed`. */
    async show(others) {
      strokes = await Promise.all(others.map(async (s) => (s.file ? { ...s, bitmap: await createImageBitmap(s.file) } : s)));
      draw(paint, strokes);
    },
    /** Return the drawing as a PNG, centred and scaled like the products in the images of a catalogue. */
    toImage() {
      const sheet = document.createElement("canvas");
      sheet.width = sheet.height = SIDE;
      draw(sheet.getContext("2d"), fitToFrame(strokes));
      return new Promise((done) => sheet.toBlob(done, "image/png"));
    },
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && !board.empty) {
      event.preventDefault();
      board.undo();
    }
  });
  draw(paint, strokes);
  return board;
}

function draw(paint, strokes) {
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, SIDE, SIDE);
  paint.strokeStyle = INK;
  paint.lineCap = paint.lineJoin = "round";
  for (const { bitmap, width, points } of strokes) {
    if (bitmap) {
      const scale = SIDE / Math.max(bitmap.width, bitmap.height);
      const [w, h] = [bitmap.width * scale, bitmap.height * scale];
      paint.drawImage(bitmap, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
      continue;
    }
    paint.lineWidth = width;
    paint.beginPath();
    paint.moveTo(...points[0]);
    // A dot is a line that ends where it begins.
    if (points.length === 1) paint.lineTo(...points[0]);
    // Curves through the midpoints look drawn by hand; lines would show corners.
    for (let i = 1; i < points.length; i++) {
      const [x, y] = points[i - 1];
      const [toX, toY] = points[i];
      paint.quadraticCurveTo(x, y, (x + toX) / 2, (y + toY) / 2);
    }
    paint.lineTo(...points.at(-1));
    paint.stroke();
  }
}

function fitToFrame(strokes) {
  if (strokes.some((stroke) => stroke.bitmap)) return strokes;
  const all = strokes.flatMap((stroke) => stroke.points);
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const span = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [[left, right], [top, bottom]] = [span(xs), span(ys)];
  const scale = Math.min(Math.max((FILL * SIDE) / Math.max(right - left, bottom - top, 1), SCALES[0]), SCALES[1]);
  const move = ([x, y]) => [
    (x - (left + right) / 2) * scale + SIDE / 2,
    (y - (top + bottom) / 2) * scale + SIDE / 2,
  ];
  return strokes.map((stroke) => ({ ...stroke, points: stroke.points.map(move) }));
}
