// Words in the reader's language. A word that a language lacks is said in English.

import english from "./lang/en.js";

export const LANGUAGES = { en: "English", pt: "Português", es: "Español", cs: "Čeština" };

let words = english;
let language = "en";

/** The language that was chosen last, or the first of the browser's that is known. */
export function preferred() {
  const wanted = [new URLSearchParams(location.search).get("lang"), remembered(), ...navigator.languages];
  return wanted.map((code) => code?.slice(0, 2).toLowerCase()).find((code) => code in LANGUAGES) ?? "en";
}

function remembered() {
  try {
    return localStorage.getItem("lookalike-language");
  } catch {
    return null; // storage can be forbidden
  }
}

/** Switch, and put the words into all elements that name one. */
export async function speak(code, { remember = false } = {}) {
  words = { ...english, ...(await import(`./lang/${code}.js`)).default };
  language = code;
  if (remember) {
    try {
      localStorage.setItem("lookalike-language", code);
    } catch {
      // as above
    }
  }
  document.documentElement.lang = code;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const attribute of ["aria-label", "title"]) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** A word, with values in its braces; `n` also chooses among plural forms. */
export function t(key, values = {}) {
  let word = words[key] ?? key;
  if (typeof word === "object") word = word[new Intl.PluralRules(language).select(values.n)] ?? word.other;
  return word.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value, 0) : value;
  });
}

/** A number as it is written in the language. */
export function number(value, digits = 2) {
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** A probability in whole per cent, and never as a certainty. */
export function percent(value) {
  const format = new Intl.NumberFormat(language, { style: "percent" });
  if (value > 0.99) return `>${format.format(0.99)}`;
  return value < 0.01 ? `<${format.format(0.01)}` : format.format(value);
}

/** A distance: whole for bits, else two digits. */
export function distance(value, metric) {
  return number(value, metric === "hamming" ? 0 : 2);
}
