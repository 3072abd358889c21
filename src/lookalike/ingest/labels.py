"""Labels and attributes of images, from a CSV file."""

import csv
from pathlib import Path

from lookalike.errors import DataError, NotFoundError


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Read labels and attributes from a CSV, by path and without empty values.

    Raises:
        NotFoundError: the file does not exist or cannot be read.
        DataError: it is not a CSV in UTF-8, has no column ``path`` or two of one name, or names an image twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name for name in reader.fieldnames or () if name]  # an unnamed column is often a row number
            if "path" not in columns:
                raise DataError(f"{path} has no column “path”. Its first line should be like path,label.")
            if len(set(columns)) < len(columns):
                raise DataError(f"{path} has two columns of the same name; rename one.")
            rows: dict[str, dict[str, str]] = {}
            for row in reader:
                key = Path(row.pop("path") or "").as_posix()
                if key in rows:
                    raise DataError(f"{path} names “{key}” twice; remove one of the lines.")
                if None in row:
                    raise DataError(
                        f"{path}, line {reader.line_num}: more values than columns. Quote values with commas."
                    )
                rows[key] = {k: v for k, v in row.items() if k and v}
            return rows
    except OSError as e:
        advice = "Give “folder”, or the path of a CSV file with the columns path and label."
        raise NotFoundError(f"The labels {path} cannot be read: {e.strerror}. {advice}") from e
    except (ValueError, csv.Error) as e:  # ValueError: bytes that are not UTF-8, or a path that no file can have
        raise DataError(f"{path} is not a CSV in UTF-8: {e}.") from e
