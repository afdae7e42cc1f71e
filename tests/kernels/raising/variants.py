"""The same tensor computations in many ways of writing them: C functions, each with what it must be recognized as."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

SUMS = {"float": "float", "double": "double", "int": "int", "signed char": "int"}
"""Element types, each with the type in which sums of products are kept."""

COUNTERS = ("int", "long", "size_t", "unsigned")


@dataclass(frozen=True)
class Variant:
    """`patterns`: what is found, each once or more often, and nothing else."""

    name: str
    code: str
    patterns: frozenset[str]


@dataclass(frozen=True)
class Style:
    """How it is written: the type of elements and of counters, how loops and subscripts look, where sums are kept."""

    element: str = "float"
    counter: str = "int"
    loop: str = "for"
    array: str = "flat"
    total: str = "register"
    tile: int = 0

    @property
    def sum(self) -> str:
        return SUMS[self.element]

    def nest(self, bounds: list[tuple[str, str]], body: str) -> str:
        """Loops over (counter, extent), outermost first; tiled ones where the style says so."""
        if self.tile:
            inner = body
            for name, extent in reversed(bounds):
                limit = f"({name}{name} + {self.tile} < {extent} ? {name}{name} + {self.tile} : {extent})"
                inner = f"for ({self.counter} {name} = {name}{name}; {name} < {limit}; {name}++) {{ {inner} }}"
            for name, extent in reversed(bounds):
                step = f"{name}{name} += {self.tile}"
                inner = f"for ({self.counter} {name}{name} = 0; {name}{name} < {extent}; {step}) {{ {inner} }}"
            return inner
        for name, extent in reversed(bounds):
            body = self.one(name, extent, body)
        return body

    def one(self, name: str, extent: str, body: str) -> str:
        kind = self.counter
        if self.loop == "while":
            return f"{{ {kind} {name} = 0; while ({name} < {extent}) {{ {body} {name}++; }} }}"
        if self.loop == "not-equal":
            return f"for ({kind} {name} = 0; {name} != {extent}; ++{name}) {{ {body} }}"
        if self.loop == "down":
            return f"for ({kind} {name} = {extent} - 1; {name} >= 0; {name}--) {{ {body} }}"
        if self.loop == "guarded":
            return f"if ({extent} > 0) {{ {kind} {name} = 0; do {{ {body} {name}++; }} while ({name} < {extent}); }}"
        return f"for ({kind} {name} = 0; {name} < {extent}; {name}++) {{ {body} }}"

    def parameter(self, name: str, extents: list[str], kind: str | None = None) -> str:
        kind = kind or self.element
        if self.array == "flat" or len(extents) == 1:
            return f"{kind} *{name}"
        return f"{kind} {name}" + "".join(f"[{extent}]" for extent in extents)

    def at(self, name: str, extents: list[str], indices: list[str]) -> str:
        if self.array != "flat" and len(extents) > 1:
            return name + "".join(f"[{index}]" for index in indices)
        text = indices[0]
        for extent, index in zip(extents[1:], indices[1:], strict=True):
            text = f"({text}) * {extent} + {index}"
        return f"{name}[{text}]"

    def name(self) -> str:
        parts = (self.element[:2] if self.element != "signed char" else "i8", self.counter[:2], self.loop, self.array,
                 self.total, f"t{self.tile}" if self.tile else "")  # fmt: skip
        return "_".join(p.replace("-", "") for p in parts if p)


def styles() -> Iterator[Style]:
    """Each way of writing alone, and some together."""
    yield Style()
    yield from (Style(element=e) for e in ("double", "int", "signed char"))
    yield from (Style(counter=c) for c in COUNTERS[1:])
    yield from (Style(loop=loop) for loop in ("while", "not-equal", "down", "guarded"))
    yield from (Style(array=a) for a in ("rows", "fixed"))
    yield Style(total="memory")
    yield Style(total="memory", array="rows", element="double")
    yield Style(total="memory", loop="while", counter="long")
    yield Style(total="memory", tile=16)
    yield Style(total="memory", tile=32, array="fixed", element="double")
    yield Style(array="rows", counter="size_t", element="signed char")
    yield Style(array="fixed", loop="down", counter="long", element="int")


def sizes(style: Style, names: str) -> tuple[str, dict[str, str]]:
    """Parameters for the extents, and how each is written in the code."""
    if style.array == "fixed":
        numbers = dict(zip(names, ("48", "40", "36", "24", "7"), strict=False))
        return "", numbers
    return "".join(f"{style.counter} {n}, " for n in names), {n: n for n in names}


def products(style: Style) -> Iterator[Variant]:
    """Matrix products: plain, of transposed operands, batched, with a vector."""
    parameters, of = sizes(style, "mnk")
    m, n, k = of["m"], of["n"], of["k"]
    for kind, (a, b) in {"nn": ("il", "lj"), "nt": ("il", "jl"), "tn": ("li", "lj")}.items():
        extents = {"i": m, "j": n, "l": k}
        shape = {name: [extents[c] for c in subscripts] for name, subscripts in (("A", a), ("B", b), ("C", "ij"))}
        read_a, read_b, write = (style.at(x, shape[x], list(s)) for x, s in (("A", a), ("B", b), ("C", "ij")))
        declared = ", ".join([style.parameter("A", shape["A"]), style.parameter("B", shape["B"]),
                              style.parameter("C", shape["C"], style.sum)])  # fmt: skip
        head = f"({parameters}{declared})"
        bounds = [("i", m), ("j", n), ("l", k)]
        if style.total == "register":
            body = f"{style.sum} s = 0; {style.one('l', k, f's += {read_a} * {read_b};')} {write} = s;"
            code = style.nest(bounds[:2], body)
            yield Variant(f"product_{kind}", f"{head} {{ {code} }}", frozenset({"contraction"}))
            continue
        clear = Style(counter=style.counter, array=style.array).nest(bounds[:2], f"{write} = 0;")
        orders = list(itertools.permutations(bounds)) if kind == "nn" and not style.tile else [bounds]
        for number, order in enumerate(orders):
            update = style.nest(list(order), f"{write} += {read_a} * {read_b};")
            yield Variant(f"product_{kind}_o{number}", f"{head} {{ {clear} {update} }}", frozenset({"contraction"}))
        update = style.nest(bounds, f"{write} += {read_a} * {read_b};")
        yield Variant(f"product_{kind}_adds", f"{head} {{ {update} }}", frozenset({"contraction"}))


def contractions(style: Style) -> Iterator[Variant]:
    parameters, of = sizes(style, "mnkb")
    m, n, k, b = of["m"], of["n"], of["k"], of["b"]
    found = frozenset({"contraction"})
    total, element = style.sum, style.element
    if style.tile or style.total == "memory":
        return
    inner = style.one(
        "p", k, f"s += {style.at('A', [b, m, k], ['q', 'i', 'p'])} * {style.at('B', [b, k, n], ['q', 'p', 'j'])};"
    )
    body = f"{total} s = 0; {inner} {style.at('C', [b, m, n], ['q', 'i', 'j'])} = s;"
    declared = ", ".join(
        [style.parameter("A", [b, m, k]), style.parameter("B", [b, k, n]), style.parameter("C", [b, m, n], total)]
    )
    yield Variant(
        "batched", f"({parameters}{declared}) {{ {style.nest([('q', b), ('i', m), ('j', n)], body)} }}", found
    )
    inner = style.one("j", n, f"s += {style.at('A', [m, n], ['i', 'j'])} * x[j];")
    body = f"{total} s = 0; {inner} y[i] = s;"
    declared = f"{style.parameter('A', [m, n])}, {element} *x, {total} *y"
    yield Variant("matrix_vector", f"({parameters}{declared}) {{ {style.nest([('i', m)], body)} }}", found)
    code = style.nest([("i", m), ("j", n)], f"{style.at('C', [m, n], ['i', 'j'])} = x[i] * y[j];")
    declared = f"{element} *x, {element} *y, {style.parameter('C', [m, n], total)}"
    yield Variant("outer", f"({parameters}{declared}) {{ {code} }}", found)
    yield Variant("dot", f"({parameters}{element} *x, {element} *y, {total} *r) {{ {total} s = 0; "
                  f"{style.one('i', m, 's += x[i] * y[i];')} r[0] = s; }}", found)  # fmt: skip
    if style.loop == "for" and style.array != "fixed":
        inner = style.one("l", k, f"s += {style.at('A', [m, k], ['i', 'l'])} * {style.at('A', [m, k], ['j', 'l'])};")
        rows = f"for ({style.counter} i = 0; i < {m}; i++) for ({style.counter} j = 0; j <= i; j++)"
        body = f"{{ {total} s = 0; {inner} {style.at('C', [m, m], ['i', 'j'])} += s; }}"
        declared = f"{style.parameter('A', [m, k])}, {style.parameter('C', [m, m], total)}"
        yield Variant("symmetric", f"({parameters}{declared}) {{ {rows} {body} }}", found)


def convolutions(style: Style) -> Iterator[Variant]:
    """One to three dimensions, strided, dilated, padded, grouped."""
    if (
        style.array == "fixed"
        or style.tile
        or style.loop in ("down", "not-equal")
        or style.counter in ("size_t", "unsigned")
    ):
        return
    found, t, e = frozenset({"convolution"}), style.sum, style.element
    c = style.counter
    start, end = (f"{t} s = 0;", "y[o] = s;") if style.total == "register" else ("y[o] = 0;", "")
    target = "s" if style.total == "register" else "y[o]"
    for stride, dilation in ((1, 1), (2, 1), (1, 2), (3, 2)):
        inner = style.one("r", "k", f"{target} += x[{stride} * o + {dilation} * r] * w[r];")
        code = style.one("o", "n", f"{start} {inner} {end}")
        yield Variant(f"conv1d_s{stride}_d{dilation}", f"({c} n, {c} k, {e} *x, {e} *w, {t} *y) {{ {code} }}", found)
    guard = f"if (o + r - 1 >= 0 && o + r - 1 < n) {target} += x[o + r - 1] * w[r];"
    code = style.one("o", "n", f"{start} {style.one('r', '3', guard)} {end}")
    yield Variant("conv1d_padded", f"({c} n, {e} *x, {e} *w, {t} *y) {{ {code} }}", found)
    shape = {"x": ["c", "h", "w"], "k": ["f", "c", "3", "3"], "y": ["f", "h - 2", "w - 2"]}
    for stride in (1, 2):
        high, wide = ("h - 2", "w - 2") if stride == 1 else ("p", "q")
        shape["y"] = ["f", f"({high})", f"({wide})"]
        read = style.at("x", shape["x"], ["l", f"{stride} * i + r", f"{stride} * j + s"])
        inner = f"t += {read} * {style.at('k', shape['k'], ['o', 'l', 'r', 's'])};"
        sums = style.nest([("l", "c"), ("r", "3"), ("s", "3")], inner)
        body = f"{t} t = 0; {sums} {style.at('y', shape['y'], ['o', 'i', 'j'])} = t;"
        code = style.nest([("o", "f"), ("i", high), ("j", wide)], body)
        declared = ", ".join(
            [style.parameter("x", shape["x"]), style.parameter("k", shape["k"]), style.parameter("y", shape["y"], t)]
        )
        yield Variant(
            f"conv2d_s{stride}", f"({c} f, {c} c, {c} h, {c} w, {c} p, {c} q, {declared}) {{ {code} }}", found
        )
    x, k, y = ["d", "h", "w"], ["3", "3", "3"], ["(d - 2)", "(h - 2)", "(w - 2)"]
    inner = f"t += {style.at('x', x, ['a + u', 'i + r', 'j + s'])} * {style.at('k', k, ['u', 'r', 's'])};"
    body = (
        f"{t} t = 0; {style.nest([('u', '3'), ('r', '3'), ('s', '3')], inner)} {style.at('y', y, ['a', 'i', 'j'])} = t;"
    )
    code = style.nest([("a", y[0]), ("i", y[1]), ("j", y[2])], body)
    declared = ", ".join([style.parameter("x", x), style.parameter("k", k), style.parameter("y", y, t)])
    yield Variant("conv3d", f"({c} d, {c} h, {c} w, {declared}) {{ {code} }}", found)
    x, k, y = ["g", "h", "w"], ["g", "3", "3"], ["g", "(h - 2)", "(w - 2)"]
    inner = f"t += {style.at('x', x, ['o', 'i + r', 'j + s'])} * {style.at('k', k, ['o', 'r', 's'])};"
    body = f"{t} t = 0; {style.nest([('r', '3'), ('s', '3')], inner)} {style.at('y', y, ['o', 'i', 'j'])} = t;"
    code = style.nest([("o", "g"), ("i", y[1]), ("j", y[2])], body)
    declared = ", ".join([style.parameter("x", x), style.parameter("k", k), style.parameter("y", y, t)])
    yield Variant("depthwise", f"({c} g, {c} h, {c} w, {declared}) {{ {code} }}", found)


def stencils(style: Style) -> Iterator[Variant]:
    if style.element == "signed char" or style.tile or style.loop == "down" or style.total == "memory":
        return
    found, e = frozenset({"stencil"}), style.element
    parameters, of = sizes(style, "nm")
    n, m = of["n"], of["m"]
    c = style.counter
    if style.counter in ("size_t", "unsigned") or style.loop in ("guarded", "not-equal"):
        rows, columns = f"({n} - 2)", f"({m} - 2)"
    else:
        rows, columns = f"{n} - 2", f"{m} - 2"
    code = style.one("i", rows, "y[i + 1] = (x[i] + x[i + 1] + x[i + 2]) * 2;")
    yield Variant("stencil1d", f"({parameters}{e} *x, {e} *y) {{ {code} }}", found)
    points = [("i", "j + 1"), ("i + 1", "j"), ("i + 1", "j + 1"), ("i + 1", "j + 2"), ("i + 2", "j + 1")]
    total = " + ".join(style.at("A", [n, m], list(p)) for p in points)
    code = style.nest([("i", rows), ("j", columns)], f"{style.at('B', [n, m], ['i + 1', 'j + 1'])} = {total};")
    declared = f"{style.parameter('A', [n, m])}, {style.parameter('B', [n, m])}"
    yield Variant("stencil2d", f"({parameters}{declared}) {{ {code} }}", found)
    to, of_it = (style.at(name, [n, m], ["i + 1", "j + 1"]) for name in "AB")
    back = style.nest([("i", rows), ("j", columns)], f"{to} = {of_it};")
    steps = f"for ({c} t = 0; t < steps; t++) {{ {code} {back} }}"
    yield Variant("stencil_steps", f"({c} steps, {parameters}{declared}) {{ {steps} }}", frozenset({"stencil", "copy"}))


def reductions(style: Style) -> Iterator[Variant]:
    if style.tile or style.element == "signed char":
        return
    found, e, c = frozenset({"reduction"}), style.element, style.counter
    parameters, of = sizes(style, "mn")
    m, n = of["m"], of["n"]
    is_float = e in ("float", "double")
    f = "f" if e == "float" else ""
    a = style.at("A", [m, n], ["i", "j"])
    declared = f"{style.parameter('A', [m, n])}, {e} *y"
    ways = {
        "sum": ("0", "{} += {};"), "product": ("1", "{} *= {};"),
        "max_if": (None, "if ({1} > {0}) {0} = {1};"), "max_choice": (None, "{0} = {1} > {0} ? {1} : {0};"),
        "min_if": (None, "if ({1} < {0}) {0} = {1};"), "squares": ("0", "{0} += {1} * {1};"),
    }  # fmt: skip
    if is_float:
        ways |= {"max_call": (None, f"{{0}} = fmax{f}({{0}}, {{1}});"), "absolute": ("0", f"{{0}} += fabs{f}({{1}});")}
    for name, (start, update) in ways.items():
        first = start or style.at("A", [m, n], ["i", "0"])
        if style.total == "register":
            body = f"{e} s = {first}; {style.one('j', n, update.format('s', a))} y[i] = s;"
        else:
            body = f"y[i] = {first}; {style.one('j', n, update.format('y[i]', a))}"
        yield Variant(f"rows_{name}", f"({parameters}{declared}) {{ {style.one('i', m, body)} }}", found)
    if style.total == "memory":
        return
    both = style.nest([("i", m), ("j", n)], f"s += {a};")
    yield Variant("total", f"({parameters}{declared}) {{ {e} s = 0; {both} y[0] = s; }}", found)
    if style.loop != "down":
        at = style.one("i", n, "if (x[i] > best) { best = x[i]; at = i; }")
        yield Variant(
            "argmax", f"({parameters}{e} *x, {c} *r) {{ {c} at = 0; {e} best = x[0]; {at} r[0] = at; }}", found
        )
        at = style.one("j", n, f"if ({a} <= best) {{ best = {a}; at = j; }}")
        body = f"{c} at = 0; {e} best = {style.at('A', [m, n], ['i', '0'])}; {at} r[i] = at;"
        declared = f"{style.parameter('A', [m, n])}, {c} *r"
        yield Variant("argmin_rows_last", f"({parameters}{declared}) {{ {style.one('i', m, body)} }}", found)


def composites(style: Style) -> Iterator[Variant]:
    if style.element not in ("float", "double") or style.tile or style.total == "memory":
        return
    e, f = style.element, "f" if style.element == "float" else ""
    parameters, of = sizes(style, "mn")
    m, n = of["m"], of["n"]
    x, y = style.at("x", [m, n], ["i", "j"]), style.at("y", [m, n], ["i", "j"])
    declared = f"{style.parameter('x', [m, n])}, {style.parameter('y', [m, n])}"
    largest = style.one("j", n, f"if ({x} > g) g = {x};")
    powers = style.one("j", n, f"{y} = exp{f}({x} - g); t += {y};")
    again = style.one("j", n, f"{y} /= t;")
    body = f"{e} g = {style.at('x', [m, n], ['i', '0'])}; {largest} {e} t = 0; {powers} {again}"
    yield Variant("softmax", f"({parameters}{declared}) {{ {style.one('i', m, body)} }}", frozenset({"softmax"}))
    mean = style.one("j", n, f"a += {x};")
    spread = style.one("j", n, f"{e} d = {x} - a; v += d * d;")
    scaled = style.one("j", n, f"{y} = ({x} - a) * r * g[j] + h[j];")
    body = f"{e} a = 0; {mean} a /= {n}; {e} v = 0; {spread} {e} r = 1 / sqrt{f}(v / {n} + ({e})1e-5); {scaled}"
    yield Variant(
        "layer_norm",
        f"({parameters}{declared}, {e} *g, {e} *h) {{ {style.one('i', m, body)} }}",
        frozenset({"layer norm"}),
    )


def simple(style: Style) -> Iterator[Variant]:
    """Scans, transposes, elementwise maps."""
    if style.tile or style.total == "memory":
        return
    e, t = style.element, style.sum
    parameters, of = sizes(style, "mn")
    m, n = of["m"], of["n"]
    c = style.counter
    if style.loop != "down":
        code = style.one("i", n, "s += x[i]; y[i] = s;")
        yield Variant("scan_register", f"({parameters}{e} *x, {t} *y) {{ {t} s = 0; {code} }}", frozenset({"scan"}))
        code = style.one("i", n, "y[i] = s; s *= x[i];")
        yield Variant("scan_exclusive", f"({parameters}{e} *x, {t} *y) {{ {t} s = 1; {code} }}", frozenset({"scan"}))
        read, write = style.at("A", [m, n], ["i", "j"]), style.at("B", [m, n], ["i", "j"])
        declared = f"{style.parameter('A', [m, n])}, {style.parameter('B', [m, n], t)}"
        sums = style.one("j", n, f"s += {read}; {write} = s;")
        code = style.one("i", m, f"{t} s = 0; {sums}")
        yield Variant("scan_rows", f"({parameters}{declared}) {{ {code} }}", frozenset({"scan"}))
        if e != "signed char":
            sums = style.one("i", m, f"if ({read} > s) s = {read}; {write} = s;")
            code = style.one("j", n, f"{t} s = {style.at('A', [m, n], ['0', 'j'])}; {sums}")
            yield Variant("scan_greatest", f"({parameters}{declared}) {{ {code} }}", frozenset({"scan"}))
    if style.loop == "for" and style.array == "flat":
        code = f"for ({c} i = 1; i < {n}; i++) y[i] = y[i - 1] + x[i];"
        yield Variant("scan_memory", f"({parameters}{e} *x, {t} *y) {{ y[0] = x[0]; {code} }}", frozenset({"scan"}))
    a, b = style.at("A", [m, n], ["i", "j"]), style.at("B", [n, m], ["j", "i"])
    declared = f"{style.parameter('A', [m, n])}, {style.parameter('B', [n, m])}"
    code = style.nest([("i", m), ("j", n)], f"{b} = {a};")
    yield Variant("transpose", f"({parameters}{declared}) {{ {code} }}", frozenset({"transpose"}))
    declared = f"{style.parameter('A', [m, n])}, {style.parameter('B', [m, n])}, {e} *c"
    code = style.nest([("i", m), ("j", n)], f"{style.at('B', [m, n], ['i', 'j'])} = {a} * 2 + c[j];")
    yield Variant("bias", f"({parameters}{declared}) {{ {code} }}", frozenset({"elementwise"}))
    code = style.one("i", n, "y[i] = x[i] > 0 ? x[i] : 0;")
    yield Variant("relu", f"({parameters}{e} *x, {e} *y) {{ {code} }}", frozenset({"elementwise"}))
    if style.loop == "for" and style.array == "flat":
        code = f"{e} *end = x + {n}; while (x != end) *y++ = *x++ * 3;"
        yield Variant("pointers", f"({parameters}{e} *x, {e} *y) {{ {code} }}", frozenset({"elementwise"}))
        row = f"{e} *p = A + i * {n}; {e} *q = B + j; {t} s = 0;"
        terms = f"for ({c} l = 0; l < {n}; l++) {{ s += *p++ * *q; q += {n}; }}"
        columns = f"for ({c} j = 0; j < {n}; j++) {{ {row} {terms} *C++ = s; }}"
        code = f"for ({c} i = 0; i < {m}; i++) {{ {columns} }}"
        yield Variant(
            "product_pointers", f"({parameters}{e} *A, {e} *B, {t} *C) {{ {code} }}", frozenset({"contraction"})
        )


def poolings(style: Style) -> Iterator[Variant]:
    """Sums and maxima over windows."""
    if style.array != "flat" or style.tile or style.loop in ("down", "not-equal"):
        return
    if style.counter in ("size_t", "unsigned") or style.element == "signed char":
        return
    found, e, c = frozenset({"pooling"}), style.element, style.counter
    start, end = (f"{e} s =", "y[o] = s;") if style.total == "register" else ("y[o] =", "")
    target = "s" if style.total == "register" else "y[o]"
    for name, first, update in (
        ("sum", "0", f"{target} += x[2 * o + r];"),
        ("max", "x[2 * o]", f"if (x[2 * o + r] > {target}) {target} = x[2 * o + r];"),
    ):
        code = style.one("o", "n", f"{start} {first}; {style.one('r', '3', update)} {end}")
        yield Variant(f"pool_{name}", f"({c} n, {e} *x, {e} *y) {{ {code} }}", found)


FAMILIES = (poolings, products, contractions, convolutions, stencils, reductions, composites, simple)


def variants() -> list[Variant]:
    """All, with names of their own."""
    found = []
    for style in styles():
        if style.loop == "down" and style.counter in ("size_t", "unsigned"):
            continue
        for family in FAMILIES:
            for variant in family(style):
                name = f"{variant.name}__{style.name()}"
                code = f"void {name}{variant.code}"
                found.append(Variant(name, code, variant.patterns))
    return found


def source(some: list[Variant]) -> str:
    return "\n".join(["#include <math.h>", "#include <stddef.h>", *(v.code for v in some)]) + "\n"
