// The query beside its results: a text, an image of the collection, a file of the user, or a drawing.

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
 * @param drew called with the id of a drawing to search by, and that of the drawing that it replaces, if any; returns a promise
 *   that settles when its results are shown
 * @param cleared called when the user cleared the text or the drawing of the last search
 */
export function queryPanel({ described, drew, cleared }) {
  let shown = {}; // the state
  let drawn = null; // the id of the drawing on the board
  let strokeTimer = null;
  let searches = 0; // that have not finished

  const board = drawingBoard($("canvas"), {
    cursor: $("cursor"),
    began: () => {
      $("hint").hidden = true;
    },
    grew: () => {
      strokeTimer ??= setTimeout(refresh, PAUSE_IN_STROKE);
    },
    changed: () => {
      renderTools();
      abandonStrokes();
      if (!board.empty) {
        strokeTimer = setTimeout(keepDrawing, PAUSE_AFTER_STROKE);
        $("grid").setAttribute("aria-busy", "true"); // until its results are shown
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
      ({ id: drawn } = remember({ sketch, strokes, name: t("yourDrawing") }));
      if (before) forget(before);
      await drew(drawn, before);
    } finally {
      searches -= 1;
    }
  }

  /** Put the drawing of the last search on the board, unless the user is drawing. */
  async function renderBoard(upload) {
    const id = upload?.sketch ? upload.id : null;
    if (id === drawn || board.drawing) return;
    drawn = id;
    abandonStrokes();
    await board.show(upload?.strokes ?? []);
    renderTools();
  }

  function renderTools() {
    const focused = document.activeElement;
    $("undo").disabled = !board.canUndo;
    $("redo").disabled = !board.canRedo;
    $("clear").disabled = $("save-drawing").disabled = board.empty;
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
  function trace(file) {
    URL.revokeObjectURL($("traced").src);
    $("traced").hidden = !file;
    $("trace").setAttribute("aria-pressed", Boolean(file));
    if (file) $("traced").src = URL.createObjectURL(file);
    else $("traced").removeAttribute("src");
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

  return {
    render(state) {
      const { item, text, upload } = state;
      if (text !== shown.text) $("text").value = text ?? ""; // otherwise the user may be writing another one
      shown = state;
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
    /** Do not search by strokes that the user has just drawn: the user chose something else. */
    abandonStrokes,
  };
}

function renderImage(name, src, reason = null) {
  $("query-image").replaceChildren(makeImage(reason ? { name, alt: name, reason } : { src, name, alt: name }));
  $("query-name").textContent = $("query-name").title = name;
}
