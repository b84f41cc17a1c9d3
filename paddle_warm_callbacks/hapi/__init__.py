"""The only room that touches Paddle, and the only one that knows its private names."""
