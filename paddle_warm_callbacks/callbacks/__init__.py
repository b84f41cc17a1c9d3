"""The callbacks users pass to ``model.fit``: one class a file; each captures, asks a plan, and delegates."""
