"""Checkpoints as bytes: read, written, verified, kept and copied, without Paddle."""
