// Messages about failures, in the user's language.

import { ApiError } from "./api.js";
import { t } from "./i18n.js";
import { isDrawing } from "./sketch.js";

/** Describe an error; `name` is that of the file that the user chose, if any. */
export function errorText(error, name = t("yourImage")) {
  if (!(error instanceof ApiError)) return t("failed", { detail: error.message });
  const { status, type } = error.problem;
  if (error.unreachable) return t("unreachable");
  if (status === 413) return t("tooLarge", { name });
  if (status === 404) return t("notFound");
  if (status === 503) return t("busy");
  if (type === "urn:lookalike:unreadable-image") return t(isDrawing({ name, type: "" }) ? "notADrawing" : "notAnImage", { name });
  return t("failed", { detail: error.message });
}
