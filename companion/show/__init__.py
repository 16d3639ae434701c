"""What a reader sees: claims and tables, static pictures (`plotting`), live sliders (`panels`)."""

from companion.show.claims import ClaimError, claim, paper_table
from companion.show.skeletons import skeleton

__all__ = ["ClaimError", "claim", "paper_table", "skeleton"]
