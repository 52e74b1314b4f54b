"""GET /v1/models: one path for the programs of four makers, told apart by what they send."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..dialect import Json
from ..errors import ApiError, JsonResponse
from ..generate import House
from ..model_lists import for_anthropic, for_codex, for_lm_studio, for_openai, models_listed, page_for_anthropic
from .anthropic_events import error_response

ANTHROPIC = "anthropic-version"


async def models(request: Request, house: House) -> Response:
    def told() -> Json:
        own = models_listed(house.models, house.models.names())
        if ANTHROPIC in request.headers:
            return page_for_anthropic(own)
        found: Json = {"object": "list", "data": [for_openai(one, house.models.created) for one in own]}
        if "client_version" in request.query_params:  # Codex
            found["models"] = [for_codex(one, place) for place, one in enumerate(own) if one.writes]
        return found

    return JsonResponse(await house.aside(told))


async def model(request: Request, house: House) -> Response:
    def told() -> Json:
        (own,) = models_listed(house.models, [house.models.name_of(request.path_params["id"])])
        if ANTHROPIC in request.headers:
            return for_anthropic(own)
        return for_openai(own, house.models.created)

    try:
        return JsonResponse(await house.aside(told))
    except ApiError as error:
        if ANTHROPIC in request.headers:
            return error_response(error)
        raise


async def lm_studio_models(request: Request, house: House) -> Response:
    def told() -> Json:
        own = models_listed(house.models, house.models.names())
        return {"object": "list", "data": [for_lm_studio(one) for one in own]}

    return JsonResponse(await house.aside(told))


async def lm_studio_model(request: Request, house: House) -> Response:
    def told() -> Json:
        (own,) = models_listed(house.models, [house.models.name_of(request.path_params["id"])])
        return for_lm_studio(own)

    return JsonResponse(await house.aside(told))
