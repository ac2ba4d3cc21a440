"""Training recipes of the models that ship with Headrace."""
