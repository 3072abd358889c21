// The controls of a search: collection, tabs, count or distance, metric, labels.

import { $, make } from "./dom.js";
import { t } from "./i18n.js";

/** Show the state in the controls. `chooseLabels` is called with the labels that the user wants. */
export function renderControls({ collection, within, k, metric, expands, labels, classes, by }, chooseLabels) {
  const { encoder } = collection;
  const sketches = canSketch(collection);
  const texts = canDescribe(collection);
  document.body.classList.toggle("classifying", Boolean(classes));
  for (const [id, isShown] of [["view-search", !classes], ["view-classes", classes]]) {
    if (isShown) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  $("heading").textContent = classes ? t("headingClasses") : t(`heading${texts ? "Text" : ""}${sketches ? "" : "Photo"}`);
  $("lead").textContent = t(classes ? "leadClasses" : "lead");
  $("by").value = by;
  $("text-form").hidden = !texts;
  document.querySelector(".tabs").hidden = !sketches;
  if (!sketches) chooseTab("photo");
  $("collection").value = collection.name;
  $("size").textContent = t("images", { n: collection.items });
  $("model").textContent = encoder.name;
  $("scope").textContent = encoder.scope;
  for (const option of $("count").options) {
    if (option.value !== "within") option.textContent = t("nearest", { n: Number(option.value) });
  }
  if (![...$("count").options].some(({ value }) => value === k)) {
    $("count").prepend(new Option(t("nearest", { n: Number(k) }), k)); // a link may ask for any number
  }
  $("count").value = within === null ? k : "within";
  $("max-distance-field").hidden = within === null;
  if (within !== null) $("max-distance").value = within;
  showDistanceError("");
  $("metric").replaceChildren(...collection.metrics.map((name) => new Option(t(name), name)));
  $("metric").value = metric;
  $("expand").checked = expands;
  $("expand-field").hidden = collection.metric === "hamming"; // bits have no mean
  renderLabels(collection, labels, chooseLabels);
}

export const canSketch = (collection) => collection.encoder.branches.includes("sketch");

export const canDescribe = (collection) => collection.encoder.branches.includes("text");

/** Read a distance, with a point or a comma; null if it is not one. */
export function parseDistance(text) {
  const plain = text.trim().replace(",", ".");
  return /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) && Number.isFinite(Number(plain)) ? Number(plain) : null;
}

/** Say beside the field why its distance is refused; an empty text takes that back. */
export function showDistanceError(text) {
  $("distance-error").textContent = text;
  $("distance-error").hidden = !text;
  if (text) $("max-distance").setAttribute("aria-invalid", "true");
  else $("max-distance").removeAttribute("aria-invalid");
}

function renderLabels(collection, labels, chooseLabels) {
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
          const chosen = new Set([...$("chips").querySelectorAll("[aria-pressed=true]")].map((c) => c.dataset.label));
          if (!chosen.delete(label)) chosen.add(label);
          chooseLabels([...chosen]);
        });
        return chip;
      }),
    );
  }
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", labels.includes(chip.dataset.label));
}

export function chooseTab(chosen) {
  for (const name of ["photo", "sketch"]) {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", name === chosen);
    tab.tabIndex = name === chosen ? 0 : -1;
    $(`panel-${name}`).hidden = name !== chosen;
  }
}

export const isSketching = () => !$("panel-sketch").hidden;

export function listenToTabs() {
  $("tab-photo").addEventListener("click", () => chooseTab("photo"));
  $("tab-sketch").addEventListener("click", () => chooseTab("sketch"));
  document.querySelector(".tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = event.target.closest("[role=tab]").id === "tab-photo" ? "sketch" : "photo";
    chooseTab(other);
    $(`tab-${other}`).focus();
  });
}
