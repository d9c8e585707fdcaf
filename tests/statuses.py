"""The rules for the status of an engagement, written down slowly, for turns as plain mappings."""

from __future__ import annotations


def is_over(turn, second):
    return turn["outcome"] not in (None, "dead") and turn["at_s"] + turn["lasts_s"] <= second


def status_at(turns, second, idle_s):  # noqa: PLR0911 - one line a rule
    """The rules, written down slowly: status and reason of turns that began before a second."""
    begun = [turn for turn in turns if turn["at_s"] <= second]
    if not begun:
        return None
    own = [turn for turn in begun if not turn.get("remote")] or begun
    last = max(own, key=lambda turn: (turn["at_s"], turn["number"]))
    dead = [t["outcome"] == "dead" and t["at_s"] + t["lasts_s"] <= second for t in begun]
    lasts = [turn["lasts_s"] if turn["outcome"] else 0 for turn in begun]
    seen_s = max(min(t["at_s"] + s, second) for t, s in zip(begun, lasts, strict=True))
    is_idle = second - seen_s > idle_s
    if any(not is_over(turn, second) and not gone for turn, gone in zip(begun, dead, strict=True)):
        return "active", None
    reached = [
        # Never after the last that is known of the turn.
        turn["at_s"] + min(turn["reaches_s"], until)
        for turn, until in zip(begun, lasts, strict=True)
        if turn["reaches_s"] is not None
    ]
    if any(moment <= second for moment in reached):
        return "completed", None
    ended_as = "interrupted" if last["outcome"] == "dead" else last["outcome"]
    if ended_as in ("failed", "interrupted"):
        return ended_as, None
    if last["mark"]:
        return "abandoned", last["mark"]
    if ended_as == "paused":
        return ("abandoned", "left") if is_idle else ("paused", None)
    if any(turn["goals"] for turn in own) or ended_as in ("cancelled", "left"):
        if last["on_thread"] and not is_idle:
            return "active", None
        return "abandoned", "interrupted" if ended_as in ("cancelled", "left") else "left"
    return "completed", None
