"""report.html: one file that shows what a run learnt, what it gets wrong and why; no server, no network.

page.py puts it together; scores.py, mistakes.py and course.py say what stands in its sections.
"""
