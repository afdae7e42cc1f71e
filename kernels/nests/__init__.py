"""Programs as plain loops: what passes need that change loop nests after the schedule was applied.

| module | has |
|---|---|
| plain | a scheduled function without blocks; its statements |
| linear | subscripts as linear forms of loop variables |
| calls | calls inside of expressions |
| nest | a loop nest with one statement inside: a sum, another reduction, or element by element |
| conditions | conditions on loop variables, as inequalities and as ranges |
| vectors | which loop of a nest becomes vectors |
| memory | stores that go past the caches; whether two arguments are the same memory |
| dependences | which iterations touch the same elements, by the integer set library |
| work | how much work each iteration is, and which share of the threads' time is idle |
"""
