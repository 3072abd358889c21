// The drawing board: pen and eraser on a canvas, by mouse, finger, stylus or keyboard.

import { CANVAS, fromJson, paintStroke, toJson } from "./strokes.js";

const SIDE = 1024; // of the canvas, in pixels, whatever the size of the screen
const CLOSEST = 2; // distance of two points of a stroke
const ERASER = 4; // its size, as a multiple of the pen's
const KEY_STEP = 20; // a step of the keyboard's pen
const NO_PRESSURE = 0.5; // that of a mouse or a finger
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ERASER_BUTTON = 5; // the other end of a stylus

/**
 * Let the user draw on a canvas.
 *
 * @param canvas the canvas
 * @param cursor an element over the canvas that shows the place of the keyboard's pen
 * @param began called before each stroke
 * @param grew called while a stroke goes on
 * @param changed called after each stroke, undo, redo and clear, and when a drawing is opened
 */
export function drawingBoard(canvas, { cursor, began, grew, changed }) {
  canvas.width = canvas.height = SIDE;
  const paint = canvas.getContext("2d");
  const finished = document.createElement("canvas"); // the strokes without the current one
  finished.width = finished.height = SIDE;
  let states = [[]]; // the drawing after each action; its elements are strokes, or an image `{file, bitmap}`
  let now = 0; // the state that is shown
  let current = null; // the stroke that goes on, and its pointer
  let size = 8;
  let erases = false;

  const shown = () => states[now];
  const all = () => (current ? [...shown(), current.stroke] : shown());

  function render() {
    const layer = finished.getContext("2d");
    layer.fillStyle = "#fff";
    layer.fillRect(0, 0, SIDE, SIDE);
    for (const part of shown()) paintPart(layer, part);
    renderCurrent();
  }

  function renderCurrent() {
    paint.drawImage(finished, 0, 0);
    if (current) paintStroke(paint, current.stroke, SIDE);
  }

  function act(state) {
    states = [...states.slice(0, now + 1), state];
    now += 1;
    render();
    changed();
  }

  function move(to) {
    if (current) return;
    now = to;
    render();
    changed();
  }

  function begin(pointer, point, withEraser) {
    began();
    current = { pointer, stroke: { points: [point], size: withEraser ? size * ERASER : size, eraser: withEraser } };
    renderCurrent();
  }

  function extend(points) {
    const kept = current.stroke.points;
    for (const point of points) {
      const [x, y] = kept.at(-1);
      if (Math.hypot(point[0] - x, point[1] - y) >= CLOSEST) kept.push(point);
    }
    renderCurrent();
    grew();
  }

  function end() {
    const { stroke } = current;
    current = null;
    act([...shown(), stroke]);
  }

  // ---- pointers

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = (value) => Math.min(Math.max(value * CANVAS, -CANVAS), 2 * CANVAS);
    // A finger's pressure differs from phone to phone, and some report none.
    const pressure = event.pointerType === "pen" ? event.pressure : NO_PRESSURE;
    return [place((event.clientX - box.left) / box.width), place((event.clientY - box.top) / box.height), pressure];
  };

  canvas.addEventListener("pointerdown", (event) => {
    const byEraser = event.button === ERASER_BUTTON;
    if ((event.button !== 0 && !byEraser) || current) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    begin(event.pointerId, at(event), erases || byEraser);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== current?.pointer) return;
    // A pen reports several points between two frames.
    const events = event.getCoalescedEvents?.() ?? [];
    extend((events.length ? events : [event]).map(at));
  });
  const lift = (event) => {
    if (event.pointerId === current?.pointer) end();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  // ---- keyboard

  let place = [CANVAS / 2, CANVAS / 2];

  function showCursor() {
    cursor.hidden = false;
    cursor.classList.toggle("down", Boolean(current));
    cursor.style.left = `${(place[0] / CANVAS) * 100}%`;
    cursor.style.top = `${(place[1] / CANVAS) * 100}%`;
  }

  function step([x, y], far) {
    const by = far ? 5 * KEY_STEP : KEY_STEP;
    place = [place[0] + x * by, place[1] + y * by].map((value) => Math.min(Math.max(value, 0), CANVAS));
    if (current) extend([[...place, NO_PRESSURE]]);
    showCursor();
  }

  canvas.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && (key === "y" || (key === "z" && event.shiftKey))) board.redo();
    else if (command && key === "z") board.undo();
    else if (command || event.altKey || (current && current.pointer !== "keyboard")) return;
    else if (ARROWS[event.key]) step(ARROWS[event.key], event.shiftKey);
    else if (event.key === " " || event.key === "Enter") {
      if (current) end();
      else begin("keyboard", [...place, NO_PRESSURE], erases);
      showCursor();
    } else if (event.key === "Escape" && current) {
      end();
      showCursor();
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => {
    cursor.hidden = true;
    if (current?.pointer === "keyboard") end();
  });

  const board = {
    get empty() {
      return all().length === 0;
    },
    get drawing() {
      return current !== null;
    },
    get canUndo() {
      return now > 0;
    },
    get canRedo() {
      return now < states.length - 1;
    },
    /** The strokes as data that a browser can store. */
    get strokes() {
      return all().map(({ bitmap, ...part }) => part);
    },
    set size(value) {
      size = value;
    },
    set erases(value) {
      erases = value;
    },
    undo() {
      if (board.canUndo) move(now - 1);
    },
    redo() {
      if (board.canRedo) move(now + 1);
    },
    clear() {
      if (!current) act([]);
    },
    /** Replace the drawing with that in a file: strokes or an image. */
    async open(file) {
      act(isDrawing(file) ? fromJson(await file.text()) : [{ file, bitmap: await createImageBitmap(file) }]);
    },
    /** Show other strokes, without a call of `changed`. They cannot be undone. */
    async show(others) {
      const parts = await withBitmaps(others);
      // One state for each stroke, so that undo takes back the strokes of a drawing that the page restored.
      states = [[], ...parts.map((_, i) => parts.slice(0, i + 1))];
      now = parts.length;
      render();
    },
    /** Return the drawing as a file: JSON, which the server draws like any other drawing; or PNG, if it contains an image. */
    async toFile() {
      const parts = all();
      if (!parts.some(({ bitmap }) => bitmap)) return new Blob([toJson(parts)], { type: "application/json" });
      const sheet = document.createElement("canvas");
      sheet.width = sheet.height = SIDE;
      for (const part of parts) paintPart(sheet.getContext("2d"), part);
      return new Promise((done) => sheet.toBlob(done, "image/png"));
    },
  };
  render();
  return board;
}

/** Return whether a file has strokes, and not an image. */
export const isDrawing = ({ name, type }) => type === "application/json" || name.toLowerCase().endsWith(".json");

/** Paint the strokes of a drawing, as a browser stores them, on a square canvas. */
export async function paintDrawing(canvas, strokes) {
  const parts = await withBitmaps(strokes);
  const paint = canvas.getContext("2d");
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, canvas.width, canvas.width);
  for (const part of parts) paintPart(paint, part, canvas.width);
}

const withBitmaps = (parts) =>
  Promise.all(parts.map(async (part) => (part.file ? { ...part, bitmap: await createImageBitmap(part.file) } : part)));

function paintPart(paint, part, side = SIDE) {
  if (!part.bitmap) {
    paintStroke(paint, part, side);
    return;
  }
  const { width, height } = part.bitmap;
  const scale = side / Math.max(width, height);
  const [w, h] = [width * scale, height * scale];
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, side, side);
  paint.drawImage(part.bitmap, (side - w) / 2, (side - h) / 2, w, h);
}
