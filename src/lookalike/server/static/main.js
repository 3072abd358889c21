// The page. The address holds its state (#c=collection&item=id…), so that the back button and links work. Uploaded and drawn
// images stay in memory; the address holds their index in `uploads`.

import * as api from "./api.js";
import { make, displayName, showHits, showSample, showSkeletons } from "./grid.js";
import { listenForFiles } from "./files.js";
import { LANGUAGES, preferredLanguage, setLanguage, t } from "./i18n.js";
import { drawingBoard } from "./sketch.js";
import { viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

const SAMPLE = 30; // images; fills rows of 2, 3, 5 and 6
const PAUSE_AFTER_STROKE = 350; // milliseconds
const SKELETON_DELAY = 150; // milliseconds; before it, an answer needs no placeholders

let collections = [];
let seed = Math.floor(Math.random() * 2 ** 31);
let running = new AbortController();
let strokeTimer;
const uploads = []; // {image: Blob} or {sketch: Blob}, with name and url

// ---- the address

/** Read the state from the address. */
function state() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const collection = collections.find(({ name }) => name === parameters.get("c")) ?? collections[0];
  return {
    collection,
    item: parameters.get("item"),
    upload: uploads[parameters.get("upload")],
    within: parameters.get("within"),
    k: parameters.get("k") ?? "10",
    metric: parameters.get("metric") ?? collection?.metric,
    labels: parameters.getAll("label").filter((label) => label in (collection?.labels ?? {})),
  };
}

/** Change the address and show its state. A value of null removes a parameter. */
function navigate(changes, { replace = false } = {}) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(changes)) {
    parameters.delete(key);
    for (const part of Array.isArray(value) ? value : [value]) if (part !== null) parameters.append(key, part);
  }
  const url = `${location.pathname}${location.search}#${parameters}`;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  if (collections.length) render(); // otherwise `start` renders
}

const searchByItem = (item) => {
  navigate({ item: item.id, upload: null });
  scrollToResults();
};
const startOver = () => navigate({ item: null, upload: null });

function searchByUpload(upload, options) {
  uploads.push(upload);
  navigate({ upload: uploads.length - 1, item: null }, options);
}

// ---- from the address to the page

async function render() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const current = state();
  const hasQuery = Boolean(current.item || current.upload);
  document.body.classList.toggle("has-query", hasQuery);
  renderControls(current);
  renderQuery(current);
  $("alert").hidden = true;
  $("empty").hidden = true;
  $("shuffle").hidden = hasQuery;
  $("results-heading").textContent = t(hasQuery ? "lookAlike" : "startFrom");
  $("status").textContent = hasQuery ? t("searching") : "";
  const count = hasQuery ? Math.min(current.within ? 10 : Number(current.k), 50) : SAMPLE;
  const skeletons = setTimeout(() => showSkeletons($("grid"), count, !hasQuery), $("grid").children.length ? SKELETON_DELAY : 0);
  try {
    await (hasQuery ? renderHits(current, signal) : renderSample(current, signal));
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    $("grid").replaceChildren();
    $("grid").removeAttribute("aria-busy");
    $("status").textContent = "";
    showError(error);
  } finally {
    clearTimeout(skeletons);
  }
}

async function renderHits(current, signal) {
  const { collection, item, upload, within, k, metric, labels } = current;
  const source = item ? { item } : upload.sketch ? { sketch: upload.sketch } : { image: upload.image };
  const extent = within === null ? { k } : { within };
  const answer = await api.search(collection.name, source, { ...extent, metric, labels }, signal);
  if (signal.aborted) return;
  showHits($("grid"), answer, { open: (index) => openViewer(answer, index), search: searchByItem });
  const status = [t("results", { n: answer.hits.length })];
  if (answer.took_ms !== undefined) status[0] += ` ${t("took", { ms: Math.max(1, Math.round(answer.took_ms)) })}`;
  if (!answer.exact) status.push(t("inexact"));
  if (!answer.complete) status.push(t("incomplete"));
  $("status").textContent = status.join(" · ");
  if (!answer.hits.length) showEmpty(t(collection.items ? "nothingFound" : "empty"));
}

async function renderSample({ collection, labels }, signal) {
  const { items } = await api.sample(collection.name, { seed, labels, limit: SAMPLE }, signal);
  if (signal.aborted) return;
  showSample($("grid"), items, searchByItem);
  if (!items.length) {
    $("results-heading").textContent = "";
    $("shuffle").hidden = true;
    showEmpty(t("empty"));
  }
}

function renderControls({ collection, within, k, metric, labels }) {
  $("collection").value = collection.name;
  $("size").textContent = t("images", { n: collection.items });
  $("model").textContent = collection.encoder.name;
  const sketches = collection.encoder.branches.includes("sketch");
  $("drawing").hidden = !sketches;
  $("no-sketch").hidden = sketches;
  $("no-sketch").textContent = t("noSketch", { model: collection.encoder.name });
  for (const option of $("count").options) {
    if (option.value !== "within") option.textContent = t("nearest", { n: Number(option.value) });
  }
  $("count").value = within === null ? k : "within";
  $("max-distance-field").hidden = within === null;
  if (within !== null) $("max-distance").value = within;
  $("metric").replaceChildren(...collection.metrics.map((name) => new Option(t(name), name)));
  $("metric").value = metric;
  renderLabels(collection, labels);
}

function renderLabels(collection, labels) {
  const known = Object.entries(collection.labels);
  $("labels").hidden = known.length < 2;
  $("labels-chosen").hidden = !labels.length;
  $("labels-chosen").textContent = labels.length;
  if ($("chips").dataset.of !== collection.name) {
    $("chips").dataset.of = collection.name;
    $("chips").replaceChildren(
      ...known.map(([label, count]) => {
        const chip = make("button", "chip", label);
        chip.dataset.label = label;
        chip.append(make("small", "", String(count)));
        chip.addEventListener("click", () => {
          const chosen = new Set(state().labels);
          if (!chosen.delete(label)) chosen.add(label);
          navigate({ label: [...chosen] }, { replace: true });
        });
        return chip;
      }),
    );
  }
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", labels.includes(chip.dataset.label));
}

/** Show the query next to its results. */
async function renderQuery({ collection, item, upload }) {
  const isPhoto = Boolean(item || upload?.image);
  $("drop").hidden = isPhoto;
  $("query").hidden = !isPhoto;
  if (item || upload) chooseTab(upload?.sketch ? "sketch" : "photo");
  if (upload?.image) {
    $("query-image").src = upload.url;
    $("query-image").alt = $("query-name").textContent = upload.name || t("yourImage");
  } else if (item) {
    try {
      const shown = await api.item(collection.name, item);
      if (state().item !== item) return; // the user has chosen another query
      $("query-image").src = api.address(shown.thumbnail);
      $("query-image").alt = $("query-name").textContent = displayName(shown);
    } catch {
      $("query").hidden = true; // the search shows the error
      $("drop").hidden = false;
    }
  }
}

function showEmpty(text) {
  $("empty").hidden = false;
  $("empty").textContent = text;
}

function showError(error) {
  const retry = make("button", "soft", t("tryAgain"));
  retry.addEventListener("click", () => (collections.length ? render() : start()));
  $("alert").replaceChildren(make("span", "", errorText(error)), retry);
  $("alert").hidden = false;
}

function errorText(error) {
  if (!(error instanceof api.ApiError)) return t("failed", { detail: error.message });
  if (error.unreachable) return t("unreachable");
  if (error.problem.status === 413) return t("tooLarge");
  if (error.problem.status === 404) return t("notFound");
  if (error.problem.type === "urn:lookalike:unreadable-image") return t("notAnImage");
  return t("failed", { detail: error.message });
}

function scrollToResults() {
  const top = $("results").getBoundingClientRect().top;
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // On a narrow screen the query is above its results; scroll to the query, so that both are visible.
  const target = top > innerHeight * 0.6 || top < 0 ? document.querySelector("main") : null;
  target?.scrollIntoView({ behavior: reducedMotion ? "auto" : "smooth", block: "start" });
}

// ---- from the user to the address

const openViewer = viewer(searchByItem);

const board = drawingBoard($("canvas"), () => {
  $("undo").disabled = $("clear").disabled = board.empty;
  $("hint").hidden = !board.empty;
  clearTimeout(strokeTimer);
  const isDrawn = Boolean(state().upload?.sketch);
  if (board.empty) {
    if (isDrawn) startOver();
  } else {
    strokeTimer = setTimeout(async () => {
      const sketch = await board.toImage();
      searchByUpload({ sketch, name: t("yourDrawing") }, { replace: isDrawn });
    }, PAUSE_AFTER_STROKE);
  }
});

const chooseFile = listenForFiles((file) => (isSketching() ? openDrawing(file) : searchByFile(file)));

function searchByFile(file) {
  searchByUpload({ image: file, name: file.name, url: URL.createObjectURL(file) });
}

async function openDrawing(file) {
  try {
    board.load(await createImageBitmap(file));
  } catch {
    showError(new api.ApiError({ status: 422, type: "urn:lookalike:unreadable-image" }));
  }
}

const isSketching = () => !$("panel-sketch").hidden && !$("drawing").hidden;

function chooseTab(chosen) {
  for (const name of ["photo", "sketch"]) {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", name === chosen);
    tab.tabIndex = name === chosen ? 0 : -1;
    $(`panel-${name}`).hidden = name !== chosen;
  }
  document.body.classList.toggle("sketching", chosen === "sketch");
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("tab-photo", "click", () => chooseTab("photo"));
  on("tab-sketch", "click", () => chooseTab("sketch"));
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = event.target.id === "tab-photo" ? "sketch" : "photo";
    chooseTab(other);
    $(`tab-${other}`).focus();
  });
  on("drop", "click", () => chooseFile());
  on("change", "click", () => chooseFile(searchByFile));
  on("open-drawing", "click", () => chooseFile(openDrawing));
  on("clear-query", "click", startOver);
  on("home", "click", (event) => {
    event.preventDefault();
    startOver();
  });
  on("undo", "click", () => board.undo());
  on("clear", "click", () => board.clear());
  on("brush", "input", () => (board.width = Number($("brush").value)));
  on("shuffle", "click", () => {
    seed = Math.floor(Math.random() * 2 ** 31);
    render();
  });
  on("collection", "change", () =>
    navigate({ c: $("collection").value, item: null, label: null, metric: null, within: null, k: null }),
  );
  on("count", "change", () => {
    const within = $("count").value === "within";
    navigate(within ? { within: $("max-distance").value, k: null } : { within: null, k: $("count").value }, { replace: true });
  });
  on("max-distance", "change", () => {
    if ($("max-distance").checkValidity() && $("max-distance").value) navigate({ within: $("max-distance").value }, { replace: true });
  });
  on("metric", "change", () => navigate({ metric: $("metric").value }, { replace: true }));
  on("language", "change", async () => {
    await setLanguage($("language").value, { remember: true });
    if (collections.length) render();
  });
  window.addEventListener("popstate", () => collections.length && render());
}

async function start() {
  $("alert").hidden = true;
  showSkeletons($("grid"), SAMPLE, true);
  try {
    collections = await api.collections();
  } catch (error) {
    $("grid").replaceChildren();
    showError(error);
    return;
  }
  $("collection").replaceChildren(...collections.map(({ name }) => new Option(name, name)));
  document.body.classList.toggle("single", collections.length === 1);
  render();
}

listen();
$("language").replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => new Option(name, code)));
$("language").value = preferredLanguage();
$("api-docs").href = api.documentation;
await setLanguage(preferredLanguage());
start();
