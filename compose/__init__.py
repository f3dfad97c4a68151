"""pycompose: Compose projects, on its own engine or another that speaks the same API."""

VERSION = "0.1.0"
