"""How good an application is on labelled studies, and whether that is enough; for the physicist, beside the node."""
