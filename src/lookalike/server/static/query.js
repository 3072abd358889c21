// The query beside its results: a text, an image of the collection, a file of the user, or a drawing.

import * as address from "./address.js";
import * as api from "./api.js";
import { chooseTab } from "./controls.js";
import { $ } from "./dom.js";
import { displayName, obstacle } from "./grid.js";
import { t } from "./i18n.js";
import { forget, previewAddress, remember } from "./memory.js";
import { makeImage } from "./image.js";
import { drawingBoard } from "./sketch.js";

const PAUSE_AFTER_STROKE = 200; // milliseconds
const PAUSE_IN_STROKE = 450; // milliseconds; browsers refuse more than about 100 changes of the address in 30 seconds

/**
 * Set up the query.
 *
 * @param described called with a text to search by
 * @param drawingChanged called with the id of a drawing to search by, and that of the drawing that it replaces, if any; returns a promise
 *   that settles when its results are shown
 * @param cleared called when the user cleared the text or the drawing of the last search
 */
export function queryPanel({ described, drawingChanged, cleared }) {
  let shown = {}; // the state
  let drawn = null; // the id of the drawing on the board
  let drew = { id: null, entry: null }; // the last drawing of the user, and the entry of the history that was made for it
  let strokeTimer = null;
  let searches = 0; // that have not finished
  let finishExample = null; // ends the drawing of an example, which is not searched by

  const board = drawingBoard($("canvas"), {
    cursor: $("cursor"),
    began: () => {
      $("hint").hidden = true;
    },
    grew: () => {
      if (!finishExample) strokeTimer ??= setTimeout(refresh, PAUSE_IN_STROKE);
    },
    changed: () => {
      renderTools();
      if (finishExample) return;
      abandonStrokes();
      if (!board.empty) {
        strokeTimer = setTimeout(keepDrawing, PAUSE_AFTER_STROKE);
        for (const id of ["grid", "classes"]) $(id).setAttribute("aria-busy", "true"); // until its results are shown
      } else if (drawn) {
        drawn = null; // the board keeps its history: the user may take back that it was cleared
        cleared();
      }
    },
  });

  function abandonStrokes() {
    clearTimeout(strokeTimer);
    strokeTimer = null;
  }

  /** Search while a stroke goes on, but only after the last search has finished: otherwise no answer would ever be shown. */
  function refresh() {
    if (searches) strokeTimer = setTimeout(refresh, PAUSE_IN_STROKE);
    else keepDrawing();
  }

  async function keepDrawing() {
    abandonStrokes();
    searches += 1;
    try {
      const { strokes } = board;
      const sketch = await board.toFile();
      const before = drawn;
      const inOneEntry = drew.id === before && drew.entry === address.key();
      ({ id: drawn } = remember({ sketch, strokes, name: t("yourDrawing") }));
      drew = { id: drawn, entry: null };
      if (before && inOneEntry) forget(before); // otherwise Back may need it
      await drawingChanged(drawn, before);
    } finally {
      searches -= 1;
    }
  }

  /** Put the drawing of the last search on the board, unless the user is drawing. */
  async function renderBoard(upload) {
    const id = upload?.sketch ? upload.id : null;
    if (id === drawn || board.drawing || finishExample) return;
    drawn = id;
    abandonStrokes();
    await board.show(upload?.strokes ?? []);
    renderTools();
  }

  function renderTools() {
    const focused = document.activeElement;
    $("undo").disabled = !board.canUndo;
    $("redo").disabled = !board.canRedo;
    $("clear").disabled = $("save-drawing").disabled = $("drawing-add").disabled = board.empty;
    $("hint").hidden = !board.empty;
    if (focused.disabled) $("canvas").focus({ preventScroll: true });
  }

  function choosePen(erases) {
    board.erases = erases;
    $("pen").setAttribute("aria-pressed", !erases);
    $("eraser").setAttribute("aria-pressed", erases);
  }

  async function save() {
    const file = await board.toFile();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = file.type === "application/json" ? "drawing.json" : "drawing.png";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  /** Show an image on the paper to trace, or none. It is not part of the drawing. */
  function trace(upload) {
    $("traced").hidden = !upload;
    $("trace").setAttribute("aria-pressed", Boolean(upload));
    if (upload) $("traced").src = previewAddress(upload);
    else $("traced").removeAttribute("src");
  }

  /** Let the user draw an example on the same board, in a dialog. Resolves to the drawing; to null if the user closes it. */
  async function drawExample(heading) {
    const waits = strokeTimer !== null;
    abandonStrokes();
    const before = board.strokes;
    const closed = new Promise((resolve) => (finishExample = resolve));
    await board.show([]);
    renderTools();
    $("drawing-heading").textContent = heading;
    $("drawing-foot").before($("board"));
    $("drawing").showModal();
    $("canvas").focus({ preventScroll: true });
    const example = (await closed) && !board.empty ? { sketch: await board.toFile(), strokes: board.strokes } : null;
    $("panel-sketch").append($("board"));
    finishExample = null;
    await board.show(before);
    renderTools();
    if (waits) keepDrawing();
    else renderBoard(shown.upload); // the user may have gone back meanwhile
    return example;
  }

  function closeDrawing(adds) {
    finishExample?.(adds);
    $("drawing").close();
  }

  async function renderItem({ collection, item }) {
    try {
      const found = await api.item(collection.name, item);
      if (shown.item === item) renderImage(displayName(found), api.address(found.thumbnail), obstacle(found));
    } catch {
      $("query").hidden = true; // the search shows the error
      $("drop").hidden = false;
    }
  }

  $("text-form").addEventListener("submit", (event) => {
    event.preventDefault(); // the address holds the state
    const text = $("text").value.trim();
    if (matchMedia("(hover: none)").matches) $("text").blur(); // hides the keyboard of a phone
    if (text) described(text);
    else if (shown.text) cleared();
  });
  $("text").addEventListener("input", () => {
    if (!$("text").value && shown.text) cleared();
  });
  $("undo").addEventListener("click", () => board.undo());
  $("clear").addEventListener("click", () => board.clear());
  $("redo").addEventListener("click", () => board.redo());
  $("pen").addEventListener("click", () => choosePen(false));
  $("eraser").addEventListener("click", () => choosePen(true));
  $("save-drawing").addEventListener("click", save);
  $("brush").addEventListener("input", () => (board.size = Number($("brush").value)));
  $("drawing-add").addEventListener("click", () => closeDrawing(true));
  $("drawing-close").addEventListener("click", () => closeDrawing(false));
  $("drawing").addEventListener("close", () => finishExample?.(false)); // Escape

  return {
    render(state) {
      const { item, text, upload } = state;
      if (text !== shown.text) $("text").value = text ?? ""; // otherwise the user may be writing another one
      shown = state;
      if (upload?.id === drew.id) drew.entry ??= address.key();
      const isImage = Boolean(item || upload?.image);
      const focused = $("query").contains(document.activeElement);
      $("drop").hidden = isImage;
      $("query").hidden = !isImage;
      if (focused && !isImage) $("drop").focus();
      if (item || upload) chooseTab(upload?.sketch ? "sketch" : "photo");
      renderBoard(upload);
      if (upload?.image) renderImage(upload.name || t("yourImage"), previewAddress(upload));
      else if (item) renderItem(state);
    },
    /** Replace the drawing with that in a file. */
    openDrawing: (file) => board.open(file),
    trace,
    drawExample,
    /** Close the dialog in which the user draws an example. */
    closeDrawing: () => closeDrawing(false),
    /** Whether the last strokes will be searched by: results that come before are those of an older drawing. */
    get waits() {
      return strokeTimer !== null && !board.drawing;
    },
    get drawsExample() {
      return finishExample !== null;
    },
    /** Do not search by strokes that the user has just drawn: the user chose something else. */
    abandonStrokes,
  };
}

function renderImage(name, src, reason = null) {
  $("query-image").replaceChildren(makeImage(reason ? { name, alt: name, reason } : { src, name, alt: name }));
  $("query-name").textContent = $("query-name").title = name;
}
