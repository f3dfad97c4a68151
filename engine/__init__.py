"""pyengine: a container engine that speaks the Docker Engine API."""

VERSION = "0.1.0"
