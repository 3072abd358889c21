// The classes of a classification and their examples, as the address has them: class=NAME,item:ID,upload:ID for each class.

import { canSketch } from "./controls.js";
import { recall } from "./memory.js";

export const MOST_EXAMPLES = 100; // that the server takes

const BLANK = { name: "", keys: [] };

export const itemKey = ({ id }) => `item:${id}`;

export const uploadKey = ({ id }) => `upload:${id}`;

/** Read classes from the values of the parameter `class`: `{name, keys}`. Without any, there are two to fill in. */
export function parseClasses(texts) {
  if (!texts.length) return [BLANK, BLANK];
  return texts.map((text) => {
    const [name, ...keys] = text.split(",").map(decode);
    return { name, keys: [...new Set(keys)].filter((key) => /^(item|upload):./.test(key)) };
  });
}

/** Write classes as the values of the parameter `class`. */
export const writeClasses = (classes) => classes.map(({ name, keys }) => [name, ...keys].map(encode).join(","));

/** Return the values of the parameter `class` without items, which another collection does not have. */
export const withoutItems = (texts) =>
  writeClasses(texts.length ? parseClasses(texts).map(({ name, keys }) => ({ name, keys: keys.filter((key) => !key.startsWith("item:")) })) : []);

/** Find the images of classes: `{name, examples: [{key, item}, {key, upload}]}`; an upload that this browser has lost is null. */
export const resolveClasses = (classes) =>
  Promise.all(classes.map(async ({ name, keys }) => ({ name, examples: await Promise.all(keys.map(resolve)) })));

async function resolve(key) {
  const id = key.slice(key.indexOf(":") + 1);
  return key.startsWith("item:") ? { key, item: id } : { key, upload: await recall(id) };
}

/** Return the examples that the server can use, each with the place of its class. */
export const usableExamples = ({ classes, collection }) =>
  classes.flatMap(({ examples }, place) =>
    examples
      .filter(({ item, upload }) => item || upload?.image || (upload?.sketch && canSketch(collection)))
      .map((example) => ({ ...example, place })),
  );

// The address encodes the text once more; colons and spaces need it only once.
const encode = (text) => encodeURIComponent(text).replaceAll("%3A", ":").replaceAll("%20", " ");

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that somebody has changed
  }
}
