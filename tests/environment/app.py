"""The booking agent's conversation, and in a file what it loaded and how long it took."""

import json
import os
import runpy
import sys
import time
from pathlib import Path

began = time.monotonic()
runpy.run_path(os.environ["AGENT"], run_name="__main__")
took_s = time.monotonic() - began
watched = {"spanflow", "duckdb"}
loaded = [name for name in sys.modules if name.split(".")[0] in watched]
Path(os.environ["SEEN"]).write_text(json.dumps({"took_s": took_s, "loaded": loaded}), "utf-8")
