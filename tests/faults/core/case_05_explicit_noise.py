"""google/flax#5209 "nnx.Dropout mask should follow the sharding of the input", PR #5212.

jax.make_mesh makes Explicit axes by default (jax 0.10): a batch sharded over them and any of seqcells' noise do not go together.
"""
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, seqcells as sc
from jax.sharding import NamedSharding, PartitionSpec as P
from _case import check, close, done

mesh = jax.make_mesh((2,), ("data",))
print(mesh.axis_types)
xs, key = jax.random.normal(jax.random.key(0), (7, 4, 4)), jax.random.key(1)
for net in (sc.Stack((sc.GRU(4), sc.GRU(4)), dropout=0.2), sc.Recurrent(sc.VariationalDropout(sc.GRU(4), 0.2)),
            sc.Recurrent(sc.VariationalDropout(sc.GRU(4), 0.0, 0.2)), sc.Recurrent(sc.Zoneout(sc.GRU(4), 0.2)), sc.Stack((sc.GRU(4), sc.GRU(4)))):
    params = net.init(key, 4)
    loss = lambda params, xs: (sc.unroll(net, params, xs, key=key)[1] ** 2).sum()
    def sharded():
        with jax.set_mesh(mesh):
            grads = jax.jit(jax.grad(loss))(params, jax.device_put(xs, NamedSharding(mesh, P(None, "data"))))
        close(grads, jax.grad(loss)(params, xs), 1e-4)
    check(str(net)[:70], sharded)
done()
