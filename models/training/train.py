"""Step 7. Train the model from scratch (no pretrained weights).

usage: train.py WORK OUT PHASE [--resume DIR] [--stop-at HH:MM] [--decay-from HH:MM] [--rank R --world N --sync FILE]

Runs on plain CPU cores: one process of one thread per core, gradients averaged over gloo. PHASES below gives input lengths and the mix
of examples. float32 by default: bfloat16 autocast is much slower on a CPU without bf16 instructions (145 against 3,400 tokens/s here).
"""
import argparse
import os
import pickle
import random
import time

import numpy as np

ap = argparse.ArgumentParser()
ap.add_argument("work")
ap.add_argument("out")
ap.add_argument("phase")
ap.add_argument("--resume", default="")
ap.add_argument("--steps", type=int, default=10**9)
ap.add_argument("--stop-at", default="", help="HH:MM, local time")
ap.add_argument("--decay-from", default="", help="HH:MM; the rate then falls linearly to 4 %% at --stop-at")
ap.add_argument("--lr", type=float, default=1.0)
ap.add_argument("--warmup", type=int, default=30)
ap.add_argument("--bf16", type=int, default=0)
ap.add_argument("--tokens", type=int, default=4096, help="padded tokens a step and process")
ap.add_argument("--seed", type=int, default=0)
ap.add_argument("--layers", type=int, default=3)
ap.add_argument("--threads", type=int, default=1)
ap.add_argument("--ckpt-sec", type=int, default=300)
ap.add_argument("--log", type=int, default=20)
ap.add_argument("--rank", type=int, default=0)
ap.add_argument("--world", type=int, default=1)
ap.add_argument("--sync", default="")
a = ap.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import T5Config, T5ForConditionalGeneration

torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
tk = Tokenizer.from_file(a.work + "/tokenizer.json")
if a.world > 1:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method="file://" + os.path.abspath(a.sync), rank=a.rank, world_size=a.world)
cat = np.concatenate
PRE = np.array(tk.encode("summarize:").ids[:-1], dtype=np.int64)
PRE_COPY = np.array(tk.encode("copy:").ids[:-1], dtype=np.int64)
PAD, EOS, V = 0, 1, 8000
MAX_T = 61  # longer targets are left out

# L: input pieces (least, most); sk: skew towards short; win: share of random windows (-> their first sentence);
# h: share of human summaries; cp: share of copying practice; mv: share that starts with a quote or an aside moved up; rm: share with random pieces in place of the content pieces
PHASES = dict(
    A=dict(L=(24, 96), sk=1.0, win=0.6, h=0.0, rm=0.3),
    B=dict(L=(40, 320), sk=1.2, win=0.3, h=0.01, rm=0.3),
    C=dict(L=(48, 460), sk=1.4, win=0.2, h=0.01, rm=0.25, mv=0.2),
    D=dict(L=(64, 508), sk=1.0, win=0.1, h=0.02, rm=0.2, mv=0.35, cp=0.35),
    E=dict(L=(90, 508), sk=1.0, win=0.05, h=0.02, rm=0.08, mv=0.3, cp=0.15),
)
SRC_WEIGHT = dict(senate=0.38, doj=0.17, congress=0.06, digitalgov=0.05, **{"18f": 0.015}, synth=0.28, odd=0.045)


# ---- the model and its initial weights -----------------------------------------------------------------------------
def make_model():
    cfg = T5Config(vocab_size=V, d_model=256, d_kv=64, d_ff=1024, num_layers=a.layers, num_decoder_layers=a.layers, num_heads=4, relative_attention_num_buckets=32,
                   relative_attention_max_distance=128, dropout_rate=0.0, layer_norm_epsilon=1e-6, feed_forward_proj="relu", is_encoder_decoder=True, use_cache=True,
                   pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=True)
    m = T5ForConditionalGeneration(cfg)
    hand_init(m)
    return m


@torch.no_grad()
def hand_init(m):
    """Start from an explicit copy ("induction") circuit instead of waiting for it to emerge.

    Encoder layer 0 writes sketches of pieces i-1 (head 0) and i-2 (head 1) into the residual stream of piece i; decoder layer 0 does
    the same for y[t-1]; cross-attention keys match those sketches with the current and previous decoder piece, and the values copy
    piece i to the output. Everything stays trainable.
    """
    g = torch.Generator().manual_seed(1234)

    def ortho(r, c):
        q, _ = torch.linalg.qr(torch.randn(max(r, c), max(r, c), generator=g))
        return q[:r, :c].contiguous()

    d, k = 256, 64
    P, P2, R = ortho(k, d), ortho(k, d), ortho(d, 2 * k)
    R1, R2 = R[:, :k], R[:, k:]
    S, RD = ortho(k, k), ortho(d, k)
    enc, dec = m.encoder.block, m.decoder.block
    eb = enc[0].layer[0].SelfAttention.relative_attention_bias.weight
    eb.normal_(0, 0.02)
    eb[1, 0] += 6
    eb[2, 1] += 6
    eb[17, 2] += 3
    db = dec[0].layer[0].SelfAttention.relative_attention_bias.weight
    db.normal_(0, 0.02)
    db[1, 0] += 6
    db[2, 1] += 4
    sa = enc[0].layer[0].SelfAttention
    sa.v.weight[0:k] = P
    sa.o.weight[:, 0:k] = R1
    sa.v.weight[k : 2 * k] = P2
    sa.o.weight[:, k : 2 * k] = R2
    sd = dec[0].layer[0].SelfAttention
    sd.v.weight[0:k] = P2
    sd.o.weight[:, 0:k] = RD
    sig = (12 / 64) ** 0.5
    for li in (0, 1):
        ca = dec[li].layer[1].EncDecAttention
        for h in range(4):
            if li == 0 and h >= 2:
                continue
            Kw, Qw = R1.t().clone() * sig, P.clone() * sig
            if li == 1 and h < 2:
                Kw, Qw = Kw + S @ R2.t() * sig, Qw + S @ RD.t() * sig
            ca.k.weight[h * k : (h + 1) * k] = Kw
            ca.q.weight[h * k : (h + 1) * k] = Qw
        Vf = ortho(d, d)
        if li == 1:
            ca.v.weight.copy_(Vf)
            ca.o.weight.copy_(Vf.t() * 2.0)
        else:
            ca.v.weight[: 2 * k] = Vf[: 2 * k]
            ca.o.weight[:, : 2 * k] = Vf[: 2 * k].t() * 0.5


# ---- optimizers -------------------------------------------------------------------------------------------------------
def flat(L):
    return torch.cat([t.reshape(-1) for t in L])


def unflat(f, L):
    o = 0
    for t in L:
        t.copy_(f[o : o + t.numel()].view_as(t))
        o += t.numel()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by five Newton-Schulz steps. The matrices are shared out over the processes."""

    def __init__(s, groups, lr):
        super().__init__(groups, dict(lr=lr, mom=0.95, scale=1.0))

    @torch.no_grad()
    def step(s):
        i, own = -1, [[] for _ in range(a.world)]
        for g in s.param_groups:
            for p in g["params"]:
                i += 1
                own[i % a.world].append(p)
                if i % a.world != a.rank:
                    continue
                st = s.state[p]
                if "b" not in st:
                    st["b"] = torch.zeros_like(p)
                b = st["b"]
                b.mul_(g["mom"]).add_(p.grad)
                X = p.grad + g["mom"] * b
                T = X.size(0) > X.size(1)
                if T:
                    X = X.t()
                X = X / (X.norm() + 1e-7)
                for _ in range(5):
                    A = X @ X.t()
                    X = 3.4445 * X + (-4.7750 * A + 2.0315 * (A @ A)) @ X
                if T:
                    X = X.t()
                p.add_(X, alpha=-g["lr"] * g["scale"] * max(1, p.size(0) / p.size(1)) ** 0.5)
        if a.world > 1:
            for r in range(a.world):
                f = flat(own[r])
                dist.broadcast(f, r)
                unflat(f, own[r])


def optimizers(m):
    q, mat, emb, rel, nrm = [], [], [], [], []
    for n, p in m.named_parameters():
        if "shared" in n:
            emb.append(p)
        elif "relative" in n:
            rel.append(p)
        elif p.ndim == 2:
            (q if n.endswith(".q.weight") else mat).append(p)
        else:
            nrm.append(p)
    o1 = Muon([dict(params=mat, scale=1.0), dict(params=q, scale=0.25)], lr=0.012)
    o2 = torch.optim.AdamW([dict(params=emb, lr=5e-3), dict(params=rel, lr=1e-2), dict(params=nrm, lr=3e-3)], betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
    return [o1, o2]


# ---- examples ---------------------------------------------------------------------------------------------------------
train = pickle.load(open(a.work + "/train.pkl", "rb"))
val = pickle.load(open(a.work + "/val.pkl", "rb"))
BY = {}
for r in train:
    BY.setdefault(r["src"], []).append(r)
HUMAN = [r for r in train if r["h"] is not None]
KEEP = 259 + 150  # byte pieces and the 150 most likely pieces (punctuation, function words) are not replaced


def pick(rng):
    u = rng.random()
    for k, w in SRC_WEIGHT.items():
        u -= w
        if u < 0:
            return BY[k][rng.randrange(len(BY[k]))]
    return train[rng.randrange(len(train))]


def remap(rng, x, t, p):
    """Replace a random part of the content pieces by random pieces, the same in input and target: copying must not depend on the content."""
    u = np.unique(cat([x, t]))
    u = u[u >= KEEP]
    g = np.random.RandomState(rng.randrange(1 << 30))
    sel = u[g.rand(len(u)) < p]
    r = g.randint(KEEP, V, len(sel))
    b = g.rand(len(sel)) < 0.04
    r[b] = g.randint(3, 259, b.sum())
    m = np.arange(V)
    m[sel] = r
    return m[x], m[t]


def sample(rng, ph, rec=None):
    while True:
        u = rng.random()
        mode = "t"
        if rec is not None:
            r = rec
        elif u < ph["h"] and HUMAN:
            r, mode = HUMAN[rng.randrange(len(HUMAN))], "h"
        else:
            r = pick(rng)
            if u < ph["h"] + ph["win"] and r["src"] not in ("synth", "odd"):
                mode = "w"
        S, k = r["s"], 0
        Lm = int(ph["L"][0] + (ph["L"][1] - ph["L"][0]) * rng.random() ** ph["sk"]) if rec is None else ph["L"][1]
        if mode == "w":
            k = rng.randrange(0, min(len(S) - 1, 10)) if len(S) > 3 else 0
            t = r["c"][k] if k < len(r["c"]) and r["c"][k] is not None else S[k]
        else:
            t = r["h"] if mode == "h" else r["t"]
        if len(t) > MAX_T or (len(t) < 4 and r["src"] != "odd"):
            if rec is not None:
                return None
            continue
        order = list(S[k:])
        if mode == "t" and rec is None and r["q"] and rng.random() < ph.get("mv", 0):
            # move a quote or an aside to the front: the first sentence is not always the news
            j = rng.choice(r["q"])
            if not np.array_equal(S[j], t):
                n = rng.choice([1, 1, 2, 3])
                mv = [i for i in range(j, j + n) if i in r["q"]]
                order = [S[i] for i in mv] + [s for i, s in enumerate(S) if i not in mv]
        out, n = [], 0
        for s in order:
            out.append(s)
            n += len(s)
            if n >= Lm:
                break
        full = cat(out)
        x = full[:Lm]
        if rec is None and len(x) < len(full) and (mode == "w" or rng.random() < 0.5) and len(full) <= 508:
            x = full  # whole sentences half of the time
        x, t = x.astype(np.int64), t.astype(np.int64)
        if len(x) > 509:
            continue
        # the cut must keep the target's content
        if rec is None and mode != "h" and len(np.setdiff1d(t[t >= KEEP], x)) > 2:
            continue
        if rec is None and mode != "h" and r["src"] != "odd" and rng.random() < ph["rm"]:
            x, t = remap(rng, x, t, rng.choice([0.15, 0.4, 0.8]))
        return cat([PRE, x, [EOS]]), cat([t, [EOS]])


def sample_copy(rng, ph):
    """Copying practice, with its own prompt ("copy:"): some sentences of a long text in random order. The first two pieces of a
    sentence are unpredictable and not scored. Trains several times more copied pieces per long input than a summary does."""
    while True:
        r = pick(rng)
        if r["src"] == "odd" or len(r["s"]) < 3:
            continue
        Lm = int(ph["L"][0] + (ph["L"][1] - ph["L"][0]) * rng.random() ** 0.7)
        S, n = [], 0
        for s in r["s"]:
            if n + len(s) > Lm:
                break
            S.append(s)
            n += len(s)
        if len(S) < 3:
            continue
        idx = [i for i in range(len(S)) if len(S[i]) > 5]
        rng.shuffle(idx)
        t, w = [], []
        for i in idx:
            if len(t) + len(S[i]) > 150:
                continue
            t += S[i].tolist()
            w += [0, 0] + [1] * (len(S[i]) - 2)
        if len(t) < 30:
            continue
        x, t = cat(S).astype(np.int64), np.array(t, dtype=np.int64)
        if rng.random() < 0.5:
            x, t = remap(rng, x, t, rng.choice([0.15, 0.4, 0.8]))
        return cat([PRE_COPY, x, [EOS]]), t, np.array(w, dtype=bool)


def collate(b):
    """-> input, its mask, target, which target pieces count"""
    L, T = max(len(z[0]) for z in b), max(len(z[1]) for z in b)
    X, Y, W = np.zeros((len(b), L), np.int64), np.full((len(b), T), -100, np.int64), np.zeros((len(b), T), bool)
    for i, z in enumerate(b):
        X[i, : len(z[0])] = z[0]
        Y[i, : len(z[1])] = z[1]
        W[i, : len(z[1])] = z[2] if len(z) > 2 else True
    X = torch.from_numpy(X)
    return X, (X != PAD).long(), torch.from_numpy(Y), torch.from_numpy(W)


def batches(rng, ph):
    while True:
        pool = [sample_copy(rng, ph) if rng.random() < ph.get("cp", 0) else sample(rng, ph) for _ in range(512)]
        pool.sort(key=lambda z: len(z[0]) + 4 * len(z[1]) + rng.random() * 16)
        bs, cur, mx, mt = [], [], 0, 0
        for z in pool:
            m2, t2 = max(mx, len(z[0])), max(mt, len(z[1]))
            if cur and (m2 + 2 * t2) * (len(cur) + 1) > a.tokens:
                bs.append(cur)
                cur, m2, t2 = [], len(z[0]), len(z[1])
            cur.append(z)
            mx, mt = m2, t2
        bs.append(cur)
        rng.shuffle(bs)
        for b in bs:
            yield collate(b)


# ---- the loop ---------------------------------------------------------------------------------------------------------
def at(hm):
    if not hm:
        return 0
    h, mi = map(int, hm.split(":"))
    lt = time.localtime()
    return time.mktime((lt.tm_year, lt.tm_mon, lt.tm_mday, h, mi, 0, 0, 0, -1))


def main():
    os.makedirs(a.out, exist_ok=True)
    ph = PHASES[a.phase]
    rng = random.Random(a.seed + a.rank * 7919 + int(time.time()) % 100000)
    m = make_model()
    opts = optimizers(m)
    step = 0
    if a.resume:
        ck = torch.load(a.resume + "/ck.pt", weights_only=False)
        m.load_state_dict(ck["m"])
        step = ck["step"]
        for o, s in zip(opts, ck["o"]):
            if isinstance(o, Muon):  # only rank 0's momentum was saved; the other half starts anew
                continue
            o.load_state_dict(s)
    for o in opts:
        for g in o.param_groups:
            g["base"] = g.get("base", g["lr"])
    log = lambda *x: a.rank == 0 and print(time.strftime("%H:%M:%S"), *x, flush=True)
    log("parameters", sum(p.numel() for p in m.parameters()), "phase", a.phase, ph)
    vb = [z for z in (sample(random.Random(5), dict(L=(200, 200), win=0, h=0, rm=0, sk=1), r) for r in val[:120]) if z][:96]
    vb.sort(key=lambda z: len(z[0]))
    vb = [collate(vb[i : i + 24]) for i in range(0, len(vb), 24)]
    stop, dec = at(a.stop_at), at(a.decay_from)
    t0 = tl = cks = time.time()
    cpu0, s0 = time.process_time(), step
    ntok = nl = acc = ls = 0
    m.train()
    for X, M, Y, mk in batches(rng, ph):
        now = time.time()
        f = min(1, (step - s0 + 1) / a.warmup)
        if dec and now > dec:
            f *= max(0.04, 1 - 0.96 * (now - dec) / max(1, stop - dec))
        if a.world > 1:
            ft = torch.tensor([f], dtype=torch.float64)
            dist.broadcast(ft, 0)
            f = float(ft)
        for o in opts:
            for g in o.param_groups:
                g["lr"] = g["base"] * f * a.lr
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(a.bf16)):
            di = m._shift_right(Y)
            h = m.encoder(input_ids=X, attention_mask=M).last_hidden_state
            h = m.decoder(input_ids=di, encoder_hidden_states=h, encoder_attention_mask=M, use_cache=False).last_hidden_state
            lg = F.linear(h[mk] * 256**-0.5, m.shared.weight).float()  # only where there is a target
        y = Y[mk]
        loss = F.cross_entropy(lg, y)
        loss.backward()
        if a.world > 1:
            G = [p.grad for p in m.parameters()]
            fg = flat(G)
            dist.all_reduce(fg)
            fg /= a.world
            unflat(fg, G)
        torch.nn.utils.clip_grad_norm_([p for g in opts[1].param_groups for p in g["params"]], 1.0)
        for o in opts:
            o.step()
        m.zero_grad(set_to_none=True)
        step += 1
        n = len(y)
        ntok += int(M.sum()) + n
        ls += loss.item() * n
        nl += n
        acc += (lg.detach().argmax(-1) == y).sum().item()
        if step % a.log == 0:
            now, c = time.time(), time.process_time()
            log(f"step {step} loss {ls / nl:.3f} acc {acc / nl:.3f} tok/s {ntok / (now - tl):.0f} tok/cpu-s {ntok / max(1e-9, c - cpu0):.0f} f {f:.2f}")
            tl, cpu0 = now, c
            ntok = ls = nl = acc = 0
        fl = torch.tensor([float(time.time() - cks > a.ckpt_sec), float(step - s0 >= a.steps or (stop and time.time() > stop))])
        if a.world > 1:
            dist.broadcast(fl, 0)
        if fl.max() > 0:
            cks = time.time()
            if a.rank == 0:
                m.eval()
                v = vn = va = 0
                with torch.no_grad():
                    for X, M, Y, mk in vb:
                        lg = m(input_ids=X, attention_mask=M, decoder_input_ids=m._shift_right(Y)).logits
                        v += F.cross_entropy(lg[mk], Y[mk], reduction="sum").item()
                        vn += int(mk.sum())
                        va += (lg[mk].argmax(-1) == Y[mk]).sum().item()
                    X = vb[1][0][:3]
                    g = m.generate(input_ids=X, attention_mask=(X != 0).long(), max_new_tokens=62, num_beams=1, do_sample=False)
                log(f"VAL step {step} loss {v / vn:.3f} acc {va / vn:.3f}")
                for i in range(3):
                    log("  out:", tk.decode(g[i].tolist()), "\n           ref:", tk.decode([t for t in vb[1][2][i].tolist() if t >= 0]))
                torch.save(dict(m=m.state_dict(), o=[o.state_dict() for o in opts], step=step), a.out + "/ck.tmp")
                os.replace(a.out + "/ck.tmp", a.out + "/ck.pt")
                m.train()
            if a.world > 1:
                dist.barrier()
            if fl[1] > 0:
                break


main()
