"""The API gateway of Museway: who may ask, in which language, and how much."""
