"""The route that classifies an image by the labels of a collection."""

from fastapi import APIRouter

from lookalike import images
from lookalike.errors import UsageError
from lookalike.query import Query
from lookalike.server import bodies
from lookalike.server.problems import BODY_ERRORS, responses
from lookalike.server.schemas import ClassesOut, ClassifyBody, ClassifyForm, class_out
from lookalike.server.search import BRANCHES
from lookalike.server.served import NamedCollection, Served

router = APIRouter(tags=["compare"])


@router.post(
    "/api/collections/{c}/classify",  # noqa: FAST003 -- `NamedCollection` reads it
    responses=responses(*BODY_ERRORS, 404, 415, 422, 500, 503),
    openapi_extra=bodies.documented(ClassifyBody, ClassifyForm, *BRANCHES),
)
def classify(collection: NamedCollection, served: Served, body: bodies.OneImage) -> ClassesOut:
    """Rank the labels of a collection by the distance of their items from an image."""
    fields: ClassifyForm
    if body.json is not None:
        fields = given = bodies.validate_json(ClassifyBody, body.json)
        name, text = ("image", given.image) if given.image is not None else ("sketch", given.sketch or "")
        data = images.from_base64(text)
    else:
        uploaded = bodies.form_images(body, *BRANCHES)
        fields = bodies.form_fields(body, ClassifyForm, *BRANCHES)
        if len(uploaded) != 1 or not body.form.files.keys() <= uploaded.keys():
            raise UsageError("The form needs one file, named “image” or “sketch”.")
        ((name, data),) = uploaded.items()
    query = Query(images=[data], k=fields.k, metric=fields.metric, branch=BRANCHES[name])
    with served.decode(collection, data):
        (ranked,) = collection.retrying(lambda: collection.rank_labels(query, fields.by))
    return ClassesOut(classes=[class_out(entry) for entry in ranked], metric=ranked.metric, by=fields.by)
