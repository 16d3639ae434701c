"""Live sliders: each function returns a `Panel`, which Jupyter shows by `widgets`."""

from companion.show.panels.codes import code_sliders, latent_plane, true_factors
from companion.show.panels.experiments import corruption_sliders, feature_clamp, score_field
from companion.show.panels.families import (
    family_slider,
    family_traversals,
    frames,
    latent_film,
    moments,
    over_time,
)
from companion.show.panels.levels import fixed_levels, level_temperatures
from companion.show.panels.tokens import (
    codebook_plane,
    nearest_code,
    swapped_levels,
    token_sliders,
)

__all__ = [
    "code_sliders",
    "codebook_plane",
    "corruption_sliders",
    "family_slider",
    "family_traversals",
    "feature_clamp",
    "fixed_levels",
    "frames",
    "latent_film",
    "latent_plane",
    "level_temperatures",
    "moments",
    "nearest_code",
    "over_time",
    "score_field",
    "swapped_levels",
    "token_sliders",
    "true_factors",
]
