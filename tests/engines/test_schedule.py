"""The choice of `Deferred`'s options, by sizes, caches and pages."""

import functools

import jax
import jax.numpy as jnp
import pytest

import seqcells as sc
from seqcells import _shares
from seqcells.engines import _machine
from seqcells.engines.deferred import products, schedule
from tests.support.laws import assert_close

pytestmark = pytest.mark.usefixtures("strict", "x64")


def chosen(T, B, D, H, cell=sc.GRU):
    return schedule.choose(cell(H), jax.ShapeDtypeStruct((T, B, D), "float32"), "cpu")


@pytest.fixture
def caches(request, monkeypatch):
    """A processor with a second cache of so many KiB; None where nothing says so."""
    monkeypatch.setattr(_machine, "level_2", lambda: request.param and request.param * 1024)
    monkeypatch.setattr(_machine, "huge_pages", lambda: False)


@pytest.mark.parametrize("length", [1, 2, 97, 100, 997, 1000])
def test_a_chunk_is_a_divisor_where_one_is_near(length):
    for chunk in (1, 3, 16, 30, 2000):
        even = schedule.even(length, chunk)
        assert min(chunk, length) / 2 <= even <= min(2 * chunk, length)
    assert schedule.even(1000, 30) == 25
    assert schedule.even(997, 30) == 27  # of 999 steps, two are read twice


large_caches = pytest.mark.parametrize("caches", [1024, 2048, None], indirect=True)


@pytest.mark.parametrize("caches", [512, 256], indirect=True)
@pytest.mark.usefixtures("caches")
def test_matrices_fall_out_of_small_caches_earlier():
    assert not chosen(256, 16, 64, 128).project_ahead
    assert chosen(256, 16, 256, 256).project_ahead
    assert chosen(256, 16, 256, 256).product == "rows"
    assert chosen(256, 12, 384, 384).product == "columns"
    assert chosen(256, 2, 384, 384).product == "rows"


@large_caches
@pytest.mark.usefixtures("caches")
def test_cores_that_share_a_cache_read_one_matrix_a_step():
    assert not chosen(256, 16, 512, 512).project_ahead
    with _shares.ROWS(32):
        assert chosen(256, 16, 512, 512).project_ahead
        assert not chosen(256, 16, 128, 128).project_ahead


@pytest.mark.parametrize(("rows", "padded"), [(4, 4), (5, 8), (12, 16), (17, 20), (33, 36)])
def test_columns_fill_the_registers(rows, padded):
    assert products.whole_columns(rows) == padded
    u, h = (jax.random.normal(jax.random.key(i), s) for i, s in ((0, (3, 5)), (1, (rows, 3))))
    product = jax.jit(lambda u, h: products.ByColumns()(u, u.T, h)[0])
    assert_close(product(u, h), h @ u, 1e-12)
    assert f"f64[5,{padded}]" in product.lower(u, h).compile().as_text()


def test_huge_pages_make_memory_cheap(monkeypatch):
    sizes = {"long": (512, 32, 128, 128), "few": (9000, 8, 16, 32), "most": (4000, 128, 9, 128)}
    kept = {}
    for huge in (False, True):
        monkeypatch.setattr(_machine, "huge_pages", lambda huge=huge: huge)
        kept[huge] = {name: chosen(*size).keep for name, size in sizes.items()}
    assert kept[False] == {"long": (), "few": (), "most": ()}
    assert kept[True] == {"long": ("slopes",), "few": (), "most": ()}


@pytest.mark.parametrize(
    ("pages", "tunables", "huge"),
    [
        ("always [madvise] never", "", False),
        ("always [madvise] never", "glibc.malloc.hugetlb=1", True),
        ("always [madvise] never", "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1", True),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", False),
        ("always madvise [never]", "glibc.malloc.hugetlb=1", False),
        ("always madvise [never]", "glibc.malloc.hugetlb=2", True),
        ("[always] madvise never", "", True),
        ("[always] madvise never", "glibc.malloc.arena_max=1", True),
        (None, "glibc.malloc.hugetlb=1", False),  # no Linux
    ],
)
def test_pages_are_read_from_the_system_and_the_environment(
    pages, tunables, huge, tmp_path, monkeypatch
):
    if pages is not None:
        (tmp_path / "enabled").write_text(f"{pages}\n", "ascii")
    monkeypatch.setattr(_machine, "PAGES", tmp_path / "enabled")
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert _machine.huge_pages.__wrapped__() == huge


@pytest.mark.parametrize(
    ("tunables", "kept"),
    [
        ("", False),
        ("glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296", True),
        ("glibc.malloc.trim_threshold=4294967296:glibc.malloc.mmap_threshold=1073741824", True),
        ("glibc.malloc.mmap_threshold=1073741824", False),
        ("glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296", False),
    ],
)
def test_blocks_that_the_c_library_keeps_are_cheap(tunables, kept, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    monkeypatch.setattr(_machine, "keeps_blocks", _machine.keeps_blocks.__wrapped__)
    monkeypatch.setattr(_machine, "huge_pages", lambda: False)
    monkeypatch.setattr(_machine, "level_2", lambda: 1 << 20)
    assert chosen(512, 32, 128, 128).keep == (("slopes",) if kept else ())


def test_the_second_cache_is_read_from_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(_machine, "CACHES", tmp_path)
    assert _machine.level_2.__wrapped__() is None
    for index, level, size in ((0, "1", "32K"), (2, "2", "512K"), (3, "3", "16384K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "level").write_text(f"{level}\n", "ascii")
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n", "ascii")
    assert _machine.level_2.__wrapped__() == 512 * 1024
    (tmp_path / "index2" / "size").write_text("unknown\n", "ascii")
    assert _machine.level_2.__wrapped__() is None


@large_caches
@pytest.mark.usefixtures("caches")
def test_products_are_joined_where_the_gates_read_their_sum():
    assert chosen(1000, 8, 16, 32, sc.LSTM).product == "joined"
    assert chosen(1000, 8, 16, 32, sc.RNN).product == "joined"
    assert not chosen(1000, 8, 16, 32, sc.LSTM).project_ahead  # though steps are small
    assert chosen(1000, 8, 16, 32).product == "rows"  # a GRU's gates read both
    assert chosen(1000, 1, 16, 32, sc.LSTM).product == "rows"  # a row times a matrix
    assert chosen(20, 8, 16, 32, sc.LSTM).product == "rows"  # joining the weights takes longer
    assert chosen(1000, 8, 256, 256, sc.LSTM).product == "rows"  # so does one large product
    assert chosen(1000, 16, 300, 90, sc.LSTM)[1:] == (("drive",), False, True, 1, "rows")


def test_an_option_that_is_named_comes_before_joined_products():
    xs = jax.ShapeDtypeStruct((1000, 8, 16), "float32")
    select = functools.partial(sc.select_engine, sc.LSTM(32), xs)
    assert select().product == "joined"
    for named in ({"keep": ("drive",)}, {"keep": ("mixed", "slopes")}, {"project_ahead": True}):
        assert select(engine=sc.Deferred(**named)).product == "rows"
        with pytest.raises(ValueError, match="product='joined': "):
            select(engine=sc.Deferred(product="joined", **named))
    of_many = jax.ShapeDtypeStruct((2000, 32, 512), "float32")  # drives would be kept
    own = sc.select_engine(sc.LSTM(64), of_many, engine=sc.Deferred(product="joined"))
    assert (own.product, own.keep, own.project_ahead) == ("joined", (), False)
    product = {"INPUT_WEIGHTS": ("w_ih", "b"), "RECURRENT_WEIGHTS": ("w_hh", None)}
    apart = type("Apart", (sc.RNN,), {"gate": lambda self, h, d, m: jnp.tanh(d) + m} | product)
    rows = (sc.GRU(3), "declares no INPUT_WEIGHTS"), (apart(3), "more than the sum")
    for cell, reason in (*rows, (sc.LayerNorm(sc.LSTM(3)), "LayerNorm declares no INPUT_WEIGHTS")):
        with pytest.raises(ValueError, match=reason):
            sc.select_engine(cell, xs, engine=sc.Deferred(product="joined"))
    with pytest.raises(ValueError, match="LayerNorm declares no RECURRENT_WEIGHTS"):
        sc.select_engine(sc.LayerNorm(sc.LSTM(3)), xs, engine=sc.Deferred(product="columns"))


@large_caches
@pytest.mark.usefixtures("caches")
def test_the_schedule_follows_the_sizes():
    small_steps = chosen(1000, 1, 32, 65)
    assert small_steps == (1000, ("slopes",), True, True, 1, "rows")  # one window
    assert chosen(1000, 1, 32, 64) == (1000, (), True, True, 1, "rows")  # one small row
    assert chosen(1000, 1, 32, 64, sc.RNN).keep == ("slopes",)  # one slope
    assert chosen(200, 16, 16, 64, sc.UnICORNN).keep == ()  # seven slopes
    assert chosen(200, 16, 16, 64, sc.LSTM).keep == ("slopes",)  # six
    assert not chosen(100, 32, 2, 64).project_ahead  # steps are large enough
    assert chosen(128, 16, 1024, 1024).project_ahead  # one product's weights stay in cache
    assert chosen(128, 16, 1024, 1024).product == "columns"  # a matrix is too large to be copied
    assert chosen(128, 16, 512, 512).product == "columns"
    assert chosen(128, 12, 512, 512).product == "rows"  # 12 columns do not fill the registers
    assert chosen(128, 12, 512, 1024).product == "columns"  # copying the matrix takes longer
    assert chosen(128, 3, 512, 1024).product == "rows"
    assert chosen(128, 16, 512, 384).product == "rows"
    assert chosen(100, 32, 64, 64).keep == ("slopes",)
    assert chosen(24, 128, 64, 64).chunk == 1  # a step's slopes take more than the weights
    assert chosen(24, 64, 300, 64).chunk == 24  # the weights take more
    assert chosen(24, 16, 64, 64).chunk == 24  # a window of one step costs more than it saves
    assert chosen(2000, 16, 16, 512).keep == ("mixed",)  # the inputs are few
    assert chosen(10_000, 8, 16, 32).keep == ()  # too much to keep
    assert chosen(256, 16, 512, 512).keep == ("drive", "mixed")  # dear to compute again
    assert chosen(500, 128, 10, 128).chunk < chosen(500, 32, 10, 128).chunk  # windows fit a cache
    assert chosen(512, 16, 512, 512).chunk * 16 >= schedule.LARGE_ROWS
