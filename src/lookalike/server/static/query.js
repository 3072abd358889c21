// The query beside its results: a text, an image of the collection, a file of the user, or a drawing.

import * as api from "./api.js";
import { chooseTab } from "./controls.js";
import { $ } from "./dom.js";
import { displayName, obstacle } from "./grid.js";
import { t } from "./i18n.js";
import { forget, previewAddress, remember } from "./memory.js";
import { makeImage } from "./image.js";
import { drawingBoard } from "./sketch.js";

const PAUSE_AFTER_STROKE = 350; // milliseconds

/**
 * Set up the query.
 *
 * @param described called with a text to search by
 * @param drew called with the id of a drawing to search by, and that of the drawing that it replaces, if any
 * @param cleared called when the user cleared the text or the drawing of the last search
 */
export function queryPanel({ described, drew, cleared }) {
  let shown = {}; // the state
  let drawn = null; // the id of the drawing on the board
  let strokeTimer;

  const board = drawingBoard($("canvas"), {
    began: () => clearTimeout(strokeTimer),
    changed: () => {
      renderTools();
      clearTimeout(strokeTimer);
      if (!board.empty) strokeTimer = setTimeout(keepDrawing, PAUSE_AFTER_STROKE);
      else if (drawn) cleared();
    },
  });

  async function keepDrawing() {
    const sketch = await board.toImage();
    const before = drawn;
    ({ id: drawn } = remember({ sketch, strokes: board.strokes, name: t("yourDrawing") }));
    if (before) forget(before);
    drew(drawn, before);
  }

  /** Put the drawing of the last search on the board, unless the user is drawing. */
  async function renderBoard(upload) {
    const id = upload?.sketch ? upload.id : null;
    if (id === drawn || board.drawing) return;
    drawn = id;
    clearTimeout(strokeTimer);
    await board.show(upload?.strokes ?? []);
    renderTools();
  }

  function renderTools() {
    const focused = document.activeElement;
    $("undo").disabled = $("clear").disabled = board.empty;
    $("hint").hidden = !board.empty;
    if (board.empty && (focused === $("undo") || focused === $("clear"))) $("canvas").focus({ preventScroll: true });
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
  $("brush").addEventListener("input", () => (board.width = Number($("brush").value)));

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
    openDrawing: (file) => board.load(file),
    /** Do not search by strokes that the user has just drawn: the user chose something else. */
    abandonStrokes: () => clearTimeout(strokeTimer),
  };
}

function renderImage(name, src, reason = null) {
  $("query-image").replaceChildren(makeImage(reason ? { name, alt: name, reason } : { src, name, alt: name }));
  $("query-name").textContent = $("query-name").title = name;
}
