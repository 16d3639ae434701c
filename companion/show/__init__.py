"""What a reader sees: claims and tables, static pictures (`plotting`), live sliders (`panels`)."""

from companion.show.claims import ClaimError, claim, claims
from companion.show.skeletons import skeleton
from companion.show.tables import holes_table, paper_table, table

__all__ = ["ClaimError", "claim", "claims", "holes_table", "paper_table", "skeleton", "table"]
