// The state of the page, read from its address.

import { parameters, place, notePlace } from "./address.js";
import { canDescribe, canSketch } from "./controls.js";
import { recall } from "./memory.js";

/**
 * Read the state from the address. States with the same `key` have the same results.
 *
 * @param collections those of the server; the first one is the default
 * @param seed of the sample, unless this entry of the history has one
 */
export async function readState(collections, seed) {
  const read = parameters();
  const collection = collections.find(({ name }) => name === read.get("c")) ?? collections[0];
  const id = read.get("upload");
  const kept = id ? await recall(id) : null;
  const k = Number(read.get("k"));
  const metric = read.get("metric");
  const state = {
    collection,
    upload: kept?.sketch && !canSketch(collection) ? null : kept,
    lost: Boolean(id && !kept),
    item: read.get("item"),
    text: canDescribe(collection) ? read.get("text")?.trim() || null : null,
    within: read.get("within"),
    k: Number.isInteger(k) && k >= 1 && k <= 1000 ? String(k) : "10",
    metric: collection.metrics.includes(metric) ? metric : collection.metric,
    labels: read.getAll("label").filter((label) => Object.hasOwn(collection.labels, label)),
    open: read.get("open"),
    seed: place().seed ?? seed,
  };
  state.hasQuery = Boolean(state.item || state.upload || state.text);
  if (!state.hasQuery) notePlace({ seed: state.seed });
  const query = state.hasQuery ? [state.upload?.id, state.item, state.text, state.within, state.k, state.metric] : [state.seed];
  return { ...state, key: JSON.stringify([collection.name, state.labels, ...query]) };
}
