"""What a reader sees: claims and tables, static pictures (`plotting`), live sliders (`panels`)."""

from companion.show.claims import ClaimError, claim, claims
from companion.show.skeletons import skeleton
from companion.show.tables import paper_table, table

__all__ = ["ClaimError", "claim", "claims", "paper_table", "skeleton", "table"]
