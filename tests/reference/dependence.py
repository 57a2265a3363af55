"""Edge weights edge by edge, from a `Dependence`'s parameters and the formulas of design, 1."""

import torch


def plain_architecture(dependence):
    """(probabilities per edge, attention per link, matrices per link) of a single seed."""
    cell, settings = dependence.cell, dependence.settings
    probabilities, attention, matrices = [], [], []

    def name(e):
        return f"{cell.edges[e].source}_{cell.edges[e].target}"

    for e, edge in enumerate(cell.edges):
        own = None
        if name(e) in dependence.logits:
            own = torch.softmax(dependence.logits[name(e)] / settings.temperature, dim=0)
        if not edge.inner or settings.model == "independent":
            probabilities.append(own)
            continue
        links = [n for n, link in enumerate(cell.links) if link.edge == e]
        seen, T = [], []
        for n in links:
            q = cell.links[n].predecessor
            p = probabilities[q]
            if settings.model == "placebo":
                p = torch.full_like(p, 1 / len(p))
            elif settings.stop_gradient:
                p = p.detach()
            seen.append(p)
            key = {"link": f"{name(q)}-{name(e)}", "edge": name(e), "cell": "0"}[settings.sharing]
            T.append(torch.softmax(dependence.transition[key], dim=1))
        if settings.attention == "uniform":
            w = torch.full_like(seen[0][:1], 1 / len(links)).expand(len(links))
        else:
            scores = []
            for n, p in zip(links, seen, strict=True):
                score = dependence.attention[n]
                if settings.attention == "content":
                    operations = cell.edges[cell.links[n].predecessor].operations
                    query = dependence.query[name(e)]
                    picked = torch.stack([query[cell.operations.index(o)] for o in operations])
                    score = score + p @ picked / len(operations) ** 0.5
                scores.append(score)
            w = torch.softmax(torch.stack(scores), dim=0)
        p = sum(w[i] * (seen[i] @ T[i]) for i in range(len(links)))
        if settings.own_weight > 0:
            p = settings.own_weight * own + (1 - settings.own_weight) * p
        probabilities.append(p)
        attention += list(w)
        matrices += T
    return probabilities, attention, matrices
