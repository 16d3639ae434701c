"""What a reader sees: claims and tables, static pictures (`plotting`), live sliders (`panels`)."""

# ruff: noqa: F401 - what is imported here is what the package offers
from companion.show.claims import ClaimError, claim, claims
from companion.show.plotting import skeleton
from companion.show.tables import holes_table, paper_table, table
