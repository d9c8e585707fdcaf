"""What an app says itself: engagements, steps, calls and marks of plain Python, and around graphs.

Nothing is loaded here; with nothing captured, using it loads nothing of capture either.
"""
