// The page: shows the state in the address, and writes the user's actions into the address.

import * as address from "./address.js";
import * as api from "./api.js";
import { canSketch, chooseTab, isSketching, listenToTabs, parseDistance, renderControls, showDistanceError } from "./controls.js";
import { $ } from "./dom.js";
import { errorText } from "./failures.js";
import { fewShot } from "./fewshot.js";
import { listenForFiles } from "./files.js";
import { LANGUAGES, number, preferredLanguage, setLanguage, t } from "./i18n.js";
import { remember } from "./memory.js";
import { queryPanel } from "./query.js";
import { resultsView } from "./results.js";
import { isDrawing } from "./sketch.js";
import { readState } from "./state.js";
import { withoutItems } from "./support.js";
import { viewer } from "./viewer.js";

const SAMPLE = 30; // images; fills rows of 2, 3, 5 and 6
const EXPANDED = 10; // nearest images that a wider search also searches near
const SKELETON_DELAY = 150; // milliseconds; before it, an answer needs no placeholders
const REMEMBERED_ANSWERS = 20;
const LONGEST_HEADING = 60; // characters
const MOVE_INTERVAL = 400; // milliseconds; browsers refuse more than about 100 changes of the address in 30 seconds

let collections = [];
let seed = randomSeed(); // of the sample, unless the entry of the history has one
let running = new AbortController();
let turn = 0; // counts changes of the address
let stale = false; // whether to render the page again, though the address is the same
let shown = {}; // the state that the page shows
let moving; // a change of the address that waits
let moveTime = 0; // of the last such change
const answers = new Map(); // key of a search → its answer, for back and forward

// ---- from the address to the page

/** Show the state of the address. Back and forward (`traversed`) show the answers and the place that the user left. */
async function show({ traversed = false, again = false } = {}) {
  if (!collections.length) return; // `start` shows it
  clearTimeout(moving);
  stale ||= again;
  await address.whenSettled();
  const thisTurn = ++turn;
  const place = address.place();
  const state = await readState(collections, seed);
  if (thisTurn !== turn) return;
  const same = state.key === shown.key && !stale;
  const newQuery =
    state.item !== shown.item || state.text !== shown.text || state.upload?.id !== shown.upload?.id || state.collection !== shown.collection;
  const isSketch = Boolean(state.upload?.sketch);
  const refreshes = isSketch && Boolean(shown.upload?.sketch) && state.collection === shown.collection;
  const before = shown;
  shown = state;
  showViewer(state, same);
  query.trace(state.traced);
  if (same) return;
  if (traversed || newQuery) classes.closeDialogs();

  const old = traversed || stale ? answers.get(state.key) : undefined;
  stale = false;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  hold(!newQuery || isSketch);
  renderControls(state, (labels) => address.navigate({ label: labels }, { replace: true }));
  query.render(state);
  if (state.classes) {
    const answer = await classes.show(state, { before, old, signal });
    if (answer) rememberAnswer(state.key, answer);
    if (state.lost && !signal.aborted) showLost();
    if (traversed && !signal.aborted) scrollTo({ top: place.y, behavior: "instant" });
    return;
  }
  $("shuffle").hidden = state.hasQuery;
  const timer = results.wait({
    heading: heading(state),
    status: state.hasQuery && !old ? t("searching") : "",
    count: state.hasQuery ? Math.min(state.within ? 10 : Number(state.k), 50) : SAMPLE,
    delay: $("grid").children.length ? SKELETON_DELAY : 0,
    refreshes,
  });
  if (state.hasQuery && newQuery && !traversed && !isSketch) scrollToResults();
  try {
    if (state.hasQuery && state.within !== null && parseDistance(state.within) === null) {
      refuseDistance();
      return;
    }
    const answer = old ?? (await getAnswer(state, null, signal));
    if (signal.aborted) return;
    clearTimeout(timer);
    rememberAnswer(state.key, answer);
    await results.show(answer, {
      heading: heading(state, answer),
      empty: t(state.hasQuery && state.collection.items ? "nothingFound" : "empty"),
      count: place.shown,
      refreshes,
    });
    if (signal.aborted) return;
    if (query.waits) $("grid").setAttribute("aria-busy", "true");
    if (!answer.hits.length) $("shuffle").hidden = true;
    if (state.lost) showLost();
    if (traversed) scrollTo({ top: place.y, behavior: "instant" });
    showViewer(shown, true);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    results.clear(t("noAnswer"));
    showError(error, state);
  } finally {
    clearTimeout(timer);
  }
}

function heading({ hasQuery, collection, text }, answer) {
  if (text) return t("closestTo", { text: shorten(text) });
  if (hasQuery) return t(answer?.no_match ? "noMatch" : "lookAlike");
  return collection.items ? t("startFrom") : collection.name;
}

/** Cut a text that is too long for a heading. */
function shorten(text) {
  const characters = [...text.replace(/\s+/g, " ")];
  return characters.length <= LONGEST_HEADING ? characters.join("") : `${characters.slice(0, LONGEST_HEADING).join("")}…`;
}

/** Search, or get a sample; with a cursor, what follows it. */
async function getAnswer(state, cursor, signal) {
  const { collection, item, text, upload, within, k, metric, labels, expands } = state;
  if (!state.hasQuery) {
    const { seed } = state;
    const { items, total, cursor: next } = await api.sample(collection.name, { seed, labels, limit: SAMPLE, cursor }, signal);
    return { hits: items, total, cursor: next };
  }
  const source = item ? { item } : text ? { text } : upload.sketch ? { sketch: upload.sketch } : { image: upload.image };
  const extent = within === null ? { k } : { within: parseDistance(within) };
  const answer = await api.search(collection.name, source, { ...extent, ...(expands && { expand: EXPANDED }), metric, labels, cursor }, signal);
  return { ...answer, asSketch: Boolean(upload?.image) && answer.branch === "sketch" };
}

function rememberAnswer(key, answer) {
  answers.delete(key);
  answers.set(key, answer);
  if (answers.size > REMEMBERED_ANSWERS) answers.delete(answers.keys().next().value);
}

/** Open or close the viewer as the address says; `same` if the results stay. */
function showViewer({ open }, same) {
  if (open && same) {
    if (results.answer) dialog.open(results.answer, open);
    return;
  }
  const closed = dialog.close();
  if (closed && same) results.focusHit(closed);
}

/** Keep the page as high as its scroll position needs, so that nothing moves while the user draws or sets a control. */
function hold(needed) {
  const top = $("results").getBoundingClientRect().top + scrollY;
  $("results").style.minHeight = needed ? `${Math.ceil(scrollY + innerHeight - top)}px` : "";
}

function showError(error, { upload, within }) {
  const field = error.problem?.errors?.[0]?.field;
  if (within !== null && field?.startsWith("within")) {
    showDistanceError(error.problem.errors[0].message);
    results.showEmpty(error.problem.errors[0].message);
    return;
  }
  const another = upload?.image && [413, 415, 422].includes(error.problem?.status) && field === undefined;
  results.showError(errorText(error, upload?.name), {
    label: t(another ? "change" : "tryAgain"),
    act: () => (another ? chooseFile(searchByFile) : collections.length ? show({ again: true }) : start()),
  });
}

function showLost() {
  results.showError(t("lost"), { label: t("choose"), act: () => chooseFile(searchByFile) });
}

function scrollToResults() {
  const { top } = $("results").getBoundingClientRect();
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // On a narrow screen the query is above its results; scroll to the query, so that both are visible.
  const target = top > innerHeight * 0.6 || top < 0 ? document.querySelector("main") : null;
  target?.scrollIntoView({ behavior: reducedMotion ? "auto" : "smooth", block: "start" });
}

// ---- from the user to the address

function searchByItem(item) {
  query.abandonStrokes();
  address.navigate({ item: item.id, upload: null, text: null, open: null }, { replace: shown.open !== null });
}

function startOver() {
  address.navigate({ item: null, upload: null, text: null, open: null });
}

const chooseFile = listenForFiles(
  (file) => {
    const isSketch = isSketching() || query.drawsExample || (isDrawing(file) && canSketch(shown.collection));
    return isSketch ? openDrawing(file) : searchByFile(file);
  },
  (target, files) => {
    const card = shown.classes && target.closest?.(".class");
    if (card) classes.addFiles(Number(card.dataset.place), files);
    return Boolean(card);
  },
);

async function searchByFile(file) {
  query.abandonStrokes();
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    refuseFile(file); // a folder, or a file that is gone
    return;
  }
  const { id } = remember({ image: file, name: file.name });
  address.navigate({ upload: id, item: null, text: null, open: null });
}

async function openDrawing(file) {
  try {
    if (!query.drawsExample) chooseTab("sketch");
    await query.openDrawing(file);
  } catch {
    refuseFile(file);
  }
}

async function trace(file) {
  try {
    (await createImageBitmap(file)).close();
  } catch {
    refuseFile(file);
    return;
  }
  address.navigate({ trace: remember({ image: file, name: file.name }).id }, { replace: true });
}

function refuseFile(file) {
  showError(new api.ApiError({ status: 422, type: "urn:lookalike:unreadable-image" }), { within: null, upload: { image: file, name: file.name } });
}

const results = resultsView({
  search: searchByItem,
  open: ({ id }) => address.navigate({ open: id }, { above: true }),
  more: (answer) => getAnswer(shown, answer.cursor, running.signal),
  grown: (count) => address.notePlace({ shown: count }),
});

const query = queryPanel({
  described: (text) => {
    query.abandonStrokes();
    address.navigate({ text, upload: null, item: null, open: null });
  },
  // All strokes of one drawing share one entry of the history.
  drawingChanged: (id, before) => address.navigate({ upload: id, item: null, text: null, open: null }, { replace: before !== null }),
  cleared: startOver,
});

const classes = fewShot({
  current: () => shown,
  results,
  query,
  chooseFile,
  refuseFile,
  showError: (error) => showError(error, shown),
  search: searchByItem,
});

const dialog = viewer({
  search: searchByItem,
  moved: (id) => {
    clearTimeout(moving);
    const pause = moveTime + MOVE_INTERVAL - Date.now();
    if (pause > 0) moving = setTimeout(keepMove, pause, id);
    else keepMove(id);
  },
  closed: (id) => {
    clearTimeout(moving);
    if (shown.open === null) return;
    results.focusHit(id);
    address.leave("open");
  },
});

function keepMove(id) {
  moveTime = Date.now();
  address.navigate({ open: id }, { replace: true });
}

function setDistance(text) {
  const value = parseDistance(text);
  if (value !== null) {
    address.navigate({ within: String(value), k: null }, { replace: true });
    return;
  }
  shown = { ...shown, key: null }; // no search has these results
  running.abort();
  refuseDistance();
}

/** Say that the distance is invalid, beside its field and in place of the results. */
function refuseDistance() {
  const text = t("distanceInvalid", { example: number(0.5, 1) });
  showDistanceError(text);
  if (!shown.hasQuery) return;
  results.clear();
  results.showEmpty(text);
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  listenToTabs();
  on("drop", "click", () => chooseFile(searchByFile));
  on("change", "click", () => chooseFile(searchByFile));
  on("open-drawing", "click", () => chooseFile(openDrawing, "image/*,application/json,.json"));
  on("trace", "click", () => {
    if ($("traced").hidden) chooseFile(trace);
    else address.navigate({ trace: null }, { replace: true });
  });
  on("clear-query", "click", startOver);
  on("home", "click", (event) => {
    event.preventDefault();
    address.navigate({ view: null, class: null, item: null, upload: null, text: null, open: null });
  });
  on("view-search", "click", () => address.navigate({ view: null, open: null }));
  on("view-classes", "click", () => address.navigate({ view: "classes", text: null, open: null }));
  on("pick-query", "click", () => classes.pickQuery());
  on("by", "change", () => address.navigate({ by: $("by").value === "example" ? null : $("by").value }, { replace: true }));
  on("skip", "click", (event) => {
    event.preventDefault(); // the address holds the state
    $("results-heading").focus();
  });
  on("shuffle", "click", () => {
    seed = randomSeed();
    address.notePlace({ seed });
    show();
  });
  on("more", "click", () => results.showMore().catch((error) => showError(error, shown)));
  on("collection", "change", () => {
    const others = { item: null, label: null, metric: null, within: null, k: null, open: null };
    address.navigate({ ...others, c: $("collection").value, class: withoutItems(address.parameters().getAll("class")) });
  });
  on("count", "change", () => {
    if ($("count").value === "within") {
      $("max-distance-field").hidden = false;
      setDistance($("max-distance").value);
    } else {
      address.navigate({ within: null, k: $("count").value }, { replace: true });
    }
  });
  on("max-distance", "change", () => setDistance($("max-distance").value));
  on("expand", "change", () => address.navigate({ expand: $("expand").checked ? "1" : null }, { replace: true }));
  on("metric", "change", () => address.navigate({ metric: $("metric").value }, { replace: true }));
  on("language", "change", async () => {
    await setLanguage($("language").value, { remember: true });
    if (collections.length) show({ again: true });
    else start();
  });
  address.listen(show);
}

function randomSeed() {
  return Math.floor(Math.random() * 2 ** 31);
}

async function start() {
  const timer = results.wait({ heading: "", status: t("loading"), count: SAMPLE, delay: 0 });
  try {
    collections = await api.collections();
  } catch (error) {
    clearTimeout(timer);
    $("heading").textContent = t("headingPhoto");
    results.clear(t("noAnswer"));
    showError(error, { within: null });
    return;
  }
  clearTimeout(timer);
  $("collection").replaceChildren(...collections.map(({ name }) => new Option(name, name)));
  document.body.classList.toggle("single", collections.length === 1);
  show({ traversed: true });
}

$("language").replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => new Option(name, code)));
$("language").value = preferredLanguage();
$("api-docs").href = api.documentation;
await setLanguage(preferredLanguage());
listen();
start();
