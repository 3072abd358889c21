// The state of the page, read from its address.

import { parameters, place, notePlace } from "./address.js";
import { canDescribe, canSketch } from "./controls.js";
import { recall } from "./memory.js";
import { parseClasses, resolveClasses } from "./support.js";

/**
 * Read the state from the address. States with the same `key` have the same results.
 *
 * @param collections those of the server; the first one is the default
 * @param seed of the sample, unless this entry of the history has one
 */
export async function readState(collections, seed) {
  const read = parameters();
  const collection = collections.find(({ name }) => name === read.get("c")) ?? collections[0];
  const [id, traced] = [read.get("upload"), read.get("trace")];
  const kept = id ? await recall(id) : null;
  const classifies = read.get("view") === "classes";
  const k = Number(read.get("k"));
  const metric = read.get("metric");
  const state = {
    collection,
    upload: kept?.sketch && !canSketch(collection) ? null : kept,
    lost: Boolean(id && !kept),
    item: read.get("item"),
    traced: traced && canSketch(collection) ? await recall(traced) : null,
    classes: classifies ? await resolveClasses(parseClasses(read.getAll("class"))) : null,
    by: read.get("by") === "prototype" ? "prototype" : "example",
    text: canDescribe(collection) && !classifies ? read.get("text")?.trim() || null : null,
    within: read.get("within"),
    k: Number.isInteger(k) && k >= 1 && k <= 1000 ? String(k) : "10",
    metric: collection.metrics.includes(metric) ? metric : collection.metric,
    expands: read.get("expand") === "1" && collection.metric !== "hamming",
    labels: read.getAll("label").filter((label) => Object.hasOwn(collection.labels, label)),
    open: read.get("open"),
    seed: place().seed ?? seed,
  };
  state.hasQuery = Boolean(state.item || state.upload || state.text);
  if (state.classes) {
    const shown = [state.classes.map(({ name, examples }) => [name, examples.map(({ key }) => key)]), state.by, state.metric];
    return { ...state, key: JSON.stringify([collection.name, "classes", state.upload?.id, state.item, shown]) };
  }
  if (!state.hasQuery) notePlace({ seed: state.seed });
  const query = state.hasQuery ? [state.upload?.id, state.item, state.text, state.within, state.k, state.metric, state.expands] : [state.seed];
  return { ...state, key: JSON.stringify([collection.name, state.labels, ...query]) };
}
