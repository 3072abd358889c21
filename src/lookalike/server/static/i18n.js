// Texts in the user's language. A text without a translation appears in English.

import english from "./lang/en.js";

export const LANGUAGES = { en: "English", pt: "Português", es: "Español", cs: "Čeština" };

let texts = english;
let language = "en";
let locale = "en"; // the language as the user's region writes numbers and dates

/** Return the language chosen last, or the first of the browser's languages that has a translation. */
export function preferredLanguage() {
  const wanted = [new URLSearchParams(location.search).get("lang"), storedLanguage(), ...navigator.languages];
  return wanted.map((code) => code?.slice(0, 2).toLowerCase()).find((code) => code in LANGUAGES) ?? "en";
}

function storedLanguage() {
  try {
    return localStorage.getItem("lookalike-language");
  } catch {
    return null; // storage may be forbidden
  }
}

/** Switch the language, and fill in all elements that name a text. */
export async function setLanguage(code, { remember = false } = {}) {
  texts = { ...english, ...(await import(`./lang/${code}.js`)).default };
  language = code;
  locale = navigator.languages.find((tag) => tag.slice(0, 2).toLowerCase() === code) ?? code;
  if (remember) {
    try {
      localStorage.setItem("lookalike-language", code);
    } catch {
      // as above
    }
  }
  document.documentElement.lang = code;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const attribute of ["aria-label", "title", "placeholder"]) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** Return a text with values in its braces; `n` also chooses the plural form. */
export function t(key, values = {}) {
  let text = texts[key] ?? key;
  if (typeof text === "object") text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value, 0) : value;
  });
}

/** Format a number. */
export function number(value, digits = 2) {
  return new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** Format a distance: whole for bits, else with two digits. */
export function distance(value, metric) {
  return number(value, metric === "hamming" ? 0 : 2);
}

/** Format a count of bytes. */
export function bytes(value) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), units.length - 1);
  const format = new Intl.NumberFormat(locale, { style: "unit", unit: units[power], maximumFractionDigits: power > 1 ? 1 : 0 });
  return format.format(value / 1000 ** power);
}

/** Format a time in ISO 8601 as a date. */
export function date(value) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(new Date(value));
}
