// The page. Its state is in the address (#c=collection&item=id…), so that the back button and links work; images that
// were uploaded or drawn are kept in memory and named there by number.

import * as api from "./api.js";
import { make, nameOf, showHits, showSample, showSkeletons } from "./grid.js";
import { LANGUAGES, preferred, speak, t } from "./i18n.js";
import { intake } from "./intake.js";
import { easel } from "./sketch.js";
import { viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

const SAMPLE = 30; // fills rows of two, three, five and six
const PAUSE_AFTER_STROKE = 350; // milliseconds
const SKELETONS_AFTER = 150; // sooner than this, an answer needs none

let collections = [];
let seed = Math.floor(Math.random() * 2 ** 31);
let running = new AbortController();
let strokeTimer;
const uploads = []; // {image: Blob} or {sketch: Blob}, with name and url

// ---- the address

/** What the address says, as a plain object. */
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

/** Change the address, and show what it now says. A value of null takes a parameter out. */
function go(changes, { replace = false } = {}) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(changes)) {
    parameters.delete(key);
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null) parameters.append(key, one);
  }
  const url = `${location.pathname}${location.search}#${parameters}`;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  if (collections.length) render(); // else `begin` will
}

const searchFrom = (item) => {
  go({ item: item.id, upload: null });
  scrollToResults();
};
const startOver = () => go({ item: null, upload: null });

function ask(upload, options) {
  uploads.push(upload);
  go({ upload: uploads.length - 1, item: null }, options);
}

// ---- from the address to the page

async function render() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const now = state();
  const asking = Boolean(now.item || now.upload);
  document.body.classList.toggle("asking", asking);
  renderControls(now);
  renderQuery(now);
  $("alert").hidden = true;
  $("nothing").hidden = true;
  $("shuffle").hidden = asking;
  $("results-heading").textContent = t(asking ? "lookAlike" : "startFrom");
  $("status").textContent = asking ? t("searching") : "";
  const count = asking ? Math.min(now.within ? 10 : Number(now.k), 50) : SAMPLE;
  const skeletons = setTimeout(() => showSkeletons($("grid"), count, !asking), $("grid").children.length ? SKELETONS_AFTER : 0);
  try {
    await (asking ? renderHits(now, signal) : renderSample(now, signal));
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

async function renderHits(now, signal) {
  const { collection, item, upload, within, k, metric, labels } = now;
  const subject = item ? { item } : upload.sketch ? { sketch: upload.sketch } : { image: upload.image };
  const size = within === null ? { k } : { within };
  const answer = await api.search(collection.name, subject, { ...size, metric, labels }, signal);
  if (signal.aborted) return;
  showHits($("grid"), answer, { open: (place) => openViewer(answer, place), again: searchFrom });
  const said = [t("results", { n: answer.hits.length })];
  if (answer.took_ms !== undefined) said[0] += ` ${t("took", { ms: Math.max(1, Math.round(answer.took_ms)) })}`;
  if (!answer.exact) said.push(t("inexact"));
  if (!answer.complete) said.push(t("incomplete"));
  $("status").textContent = said.join(" · ");
  if (!answer.hits.length) showNothing(t(collection.items ? "nothingFound" : "empty"));
}

async function renderSample({ collection, labels }, signal) {
  const { items } = await api.sample(collection.name, { seed, labels, limit: SAMPLE }, signal);
  if (signal.aborted) return;
  showSample($("grid"), items, searchFrom);
  if (!items.length) {
    $("results-heading").textContent = "";
    $("shuffle").hidden = true;
    showNothing(t("empty"));
  }
}

function renderControls({ collection, within, k, metric, labels }) {
  $("collection").value = collection.name;
  $("size").textContent = t("images", { n: collection.items });
  $("model").textContent = collection.encoder.name;
  const sketches = collection.encoder.branches.includes("sketch");
  $("easel").hidden = !sketches;
  $("no-sketch").hidden = sketches;
  $("no-sketch").textContent = t("noSketch", { model: collection.encoder.name });
  for (const option of $("amount").options) {
    if (option.value !== "within") option.textContent = t("nearest", { n: Number(option.value) });
  }
  $("amount").value = within === null ? k : "within";
  $("radius-box").hidden = within === null;
  if (within !== null) $("radius").value = within;
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
          go({ label: [...chosen] }, { replace: true });
        });
        return chip;
      }),
    );
  }
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", labels.includes(chip.dataset.label));
}

/** The question, beside its answer. */
async function renderQuery({ collection, item, upload }) {
  const asPhoto = Boolean(item || upload?.image);
  $("drop").hidden = asPhoto;
  $("query").hidden = !asPhoto;
  if (item || upload) chooseWay(upload?.sketch ? "sketch" : "photo");
  if (upload?.image) {
    $("query-image").src = upload.url;
    $("query-image").alt = $("query-name").textContent = upload.name || t("yourImage");
  } else if (item) {
    try {
      const found = await api.item(collection.name, item);
      if (state().item !== item) return; // the reader has moved on
      $("query-image").src = api.address(found.thumbnail);
      $("query-image").alt = $("query-name").textContent = nameOf(found);
    } catch {
      $("query").hidden = true; // the search says what is wrong
      $("drop").hidden = false;
    }
  }
}

function showNothing(text) {
  $("nothing").hidden = false;
  $("nothing").textContent = text;
}

function showError(error) {
  const retry = make("button", "soft", t("tryAgain"));
  retry.addEventListener("click", () => (collections.length ? render() : begin()));
  $("alert").replaceChildren(make("span", "", sentence(error)), retry);
  $("alert").hidden = false;
}

function sentence(error) {
  if (!(error instanceof api.Failure)) return t("failed", { detail: error.message });
  if (error.unreachable) return t("unreachable");
  if (error.problem.status === 413) return t("tooLarge");
  if (error.problem.status === 404) return t("notThere");
  if (error.problem.type === "urn:lookalike:unreadable-image") return t("notAnImage");
  return t("failed", { detail: error.message });
}

function scrollToResults() {
  const top = $("results").getBoundingClientRect().top;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // Where the question stands above its answer, the question comes into view, and the answer under it.
  const target = top > innerHeight * 0.6 || top < 0 ? document.querySelector("main") : null;
  target?.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

// ---- from the reader to the address

const openViewer = viewer(searchFrom);

const board = easel($("canvas"), () => {
  $("undo").disabled = $("clear").disabled = board.empty;
  $("hint").hidden = !board.empty;
  clearTimeout(strokeTimer);
  const drawn = Boolean(state().upload?.sketch);
  if (board.empty) {
    if (drawn) startOver();
  } else {
    strokeTimer = setTimeout(async () => {
      const sketch = await board.picture();
      ask({ sketch, name: t("yourDrawing") }, { replace: drawn });
    }, PAUSE_AFTER_STROKE);
  }
});

const chooseFile = intake((file) => (sketching() ? openDrawing(file) : askImage(file)));

function askImage(file) {
  ask({ image: file, name: file.name, url: URL.createObjectURL(file) });
}

async function openDrawing(file) {
  try {
    board.load(await createImageBitmap(file));
  } catch {
    showError(new api.Failure({ status: 422, type: "urn:lookalike:unreadable-image" }));
  }
}

const sketching = () => !$("way-sketch").hidden && !$("easel").hidden;

function chooseWay(way) {
  for (const one of ["photo", "sketch"]) {
    const tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", one === way);
    tab.tabIndex = one === way ? 0 : -1;
    $(`way-${one}`).hidden = one !== way;
  }
  document.body.classList.toggle("sketching", way === "sketch");
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("tab-photo", "click", () => chooseWay("photo"));
  on("tab-sketch", "click", () => chooseWay("sketch"));
  document.querySelector(".ways").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = event.target.id === "tab-photo" ? "sketch" : "photo";
    chooseWay(other);
    $(`tab-${other}`).focus();
  });
  on("drop", "click", () => chooseFile());
  on("change", "click", () => chooseFile(askImage));
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
    go({ c: $("collection").value, item: null, label: null, metric: null, within: null, k: null }),
  );
  on("amount", "change", () => {
    const within = $("amount").value === "within";
    go(within ? { within: $("radius").value, k: null } : { within: null, k: $("amount").value }, { replace: true });
  });
  on("radius", "change", () => {
    if ($("radius").checkValidity() && $("radius").value) go({ within: $("radius").value }, { replace: true });
  });
  on("metric", "change", () => go({ metric: $("metric").value }, { replace: true }));
  on("language", "change", async () => {
    await speak($("language").value, { remember: true });
    if (collections.length) render();
  });
  window.addEventListener("popstate", () => collections.length && render());
}

async function begin() {
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
$("language").value = preferred();
$("api-docs").href = api.documentation;
await speak(preferred());
begin();
