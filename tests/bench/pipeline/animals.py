"""The API of both variants: an animal, or a list of twenty. Plain data, so that only the pipeline costs anything."""

from __future__ import annotations

ANIMALS = {str(number): {"id": str(number), "name": f"animal {number}", "legs": number % 5} for number in range(20)}


def show(animal_id: str) -> dict[str, object] | None:
    """One animal as its document."""
    found = ANIMALS.get(animal_id)
    return None if found is None else {"animal": found}


def index() -> dict[str, object]:
    """All of them."""
    return {"animals": list(ANIMALS.values())}
