"""Decide, and do nothing else: the rules of matching, transplants, stages, learning rates, saving and retention.

Every function here maps plain records to plain records. Nothing in this room reads a file, a clock or an
environment, and none of it knows arrays or Paddle, so that each rule can be tested by itself and a resumed run
decides as the uninterrupted one did. The subjects of the room do not import each other.
"""
