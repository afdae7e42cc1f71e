"""Programs as plain loops: what passes need that change loop nests after the schedule was applied.

| module | has |
|---|---|
| plain | a scheduled function without blocks; its statements |
| linear | subscripts as linear forms of loop variables |
| nest | a loop nest with one statement inside: a sum, another reduction, or element by element |
"""
