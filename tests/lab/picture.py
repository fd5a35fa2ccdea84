def render(r,t): return ""
