"""How tight relaxations are: of functions over boxes, and of a whole network over regions."""

from tightverify.tightness.differences import PlaceDifference, PlaceDifferences, place_differences
from tightverify.tightness.functions import FUNCTION_FILES, FunctionTightness, Gaps, of_function
from tightverify.tightness.networks import MODEL_FILES, RELAXATIONS, ModelTightness, chosen_relaxations, of_model
from tightverify.tightness.places import Place, places

__all__ = [
    "FUNCTION_FILES",
    "MODEL_FILES",
    "RELAXATIONS",
    "FunctionTightness",
    "Gaps",
    "ModelTightness",
    "Place",
    "PlaceDifference",
    "PlaceDifferences",
    "chosen_relaxations",
    "of_function",
    "of_model",
    "place_differences",
    "places",
]
