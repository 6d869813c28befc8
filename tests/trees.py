"Small trees with the layouts of the real data sets, quirks included: `TREES[folder](root)` makes one."
import gzip, io, json, pickle, tarfile

import numpy as np
from PIL import Image

H, W, FRAMES = 24, 32, 20


def shade(k): return np.full((H, W, 3), 10 * k % 250, np.uint8)


def encoded(pixels, format="JPEG", mode=None, palette=None):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if mode: image = image.convert(mode)
    if palette: image.putpalette(palette)
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def jpg(path, k=0, **options): put(path, encoded(shade(k), **options))


def png(path, numbers, **options): put(path, encoded(numbers, "PNG", **options))


def film(path, k=0, frames=FRAMES):
    import av
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {"webm": "libvpx", "avi": "mpeg4", "mkv": "mpeg4", "mp4": "mpeg4"}[path.suffix[1:]]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = H, W, "yuv420p"
        for t in range(frames): out.mux(stream.encode(av.VideoFrame.from_ndarray(shade(k + t), format="rgb24")))
        out.mux(stream.encode())


def datacomp(root):
    for n in range(2):
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / f"{n:08}.tar", "w") as tar:
            for k in range(10):
                for suffix, data in ((".jpg", encoded(shade(k))), (".json", b"{}"), (".txt", b"a caption")):
                    member = tarfile.TarInfo(f"{n:04}{k:05}{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def ucf101(root):
    names = [f"ApplyEyeMakeup/v_ApplyEyeMakeup_g{k:02}_c01.avi" for k in range(1, 4)]
    for k, name in enumerate(names): film(root / "UCF-101" / name, k)
    put(root / "ucfTrainTestlist/trainlist01.txt", "".join(f"{n} 1\r\n" for n in names[:2]))  # with labels and Windows' line ends
    put(root / "ucfTrainTestlist/testlist01.txt", f"{names[2]}\r\n")


def hmdb51(root):
    names = ["#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi", "a b_clap_f_cm_np1_fr_med_1.avi", "c_clap_u_bad_2.avi"]
    for k, name in enumerate(names): film(root / "hmdb51_org/clap" / name, k)
    put(root / "testTrainMulti_7030_splits/clap_test_split1.txt", f"{names[0]} 1 \n{names[1]} 2 \n{names[2]} 0 \n")
    put(root / "testTrainMulti_7030_splits/clap_test_split2.txt", f"{names[0]} 2 \n")


def moments(root):
    film(root / "training/clapping/yt-1_1.mp4")
    film(root / "validation/clapping/yt-2_2.mp4", 1)
    put(root / "trainingSet.csv", "clapping/yt-1_1.mp4,clapping,3,0\n")
    put(root / "validationSet.csv", "clapping/yt-2_2.mp4,clapping,3,0\n")


def multi_moments(root):
    film(root / "videos/adult+female+singing/1.mp4")
    put(root / "trainingSet.txt", "adult+female+singing/1.mp4,24,3\n")


def co3d(root):
    annotations = []
    for k in range(FRAMES):
        at = f"apple/110_1/{{}}/frame{k + 1:06}"
        jpg(root / (at.format("images") + ".jpg"), k)
        mask = np.zeros((H, W), np.uint8)
        mask[4:12, 4:12] = 255
        png(root / (at.format("masks") + ".png"), mask)
        depth = np.full((H, W), 4.0, np.float16)
        depth[mask > 0], depth[:2] = 2.0, 0
        file = at.format("depths") + ".jpg.geometric.png"
        png(root / file, depth.view(np.uint16))
        annotations.append({"sequence_name": "110_1", "depth": {"path": file, "scale_adjustment": 0.5}})
    put(root / "apple/frame_annotations.jgz", gzip.compress(json.dumps(annotations).encode()))
    put(root / "apple/set_lists/set_lists_fewview_train.json",
        json.dumps({"train": [["110_1", 1, "apple/110_1/images/frame000001.jpg"]] * 3, "val": [], "test": []}))


def charades(root, name="Charades"):
    film(root / f"{name}_v1_480/46GP8.mp4")
    put(root / f"{name}/{name}_v1_train.csv", 'id,subject,scene,script\n46GP8,HR43,Kitchen,"A person cooks, and\nlaughs."\n')


def ssv2(root):
    for k in range(3): film(root / f"20bn-something-something-v2/{k + 1}.webm", k)
    put(root / "labels/train.json", json.dumps([{"id": str(k), "label": "moving pen", "template": "Moving [something]", "placeholders": ["pen"]}
                                                for k in (1, 2)]))
    put(root / "labels/validation.json", json.dumps([{"id": "3", "label": "moving pen"}]))


def kinetics(root, split="train"):
    film(root / f"{split}/riding a bike/-abc_000003_000013.mp4")
    put(root / f"{split}.csv", f"label,youtube_id,time_start,time_end,split\nriding a bike,-abc,3,13,{split}\nriding a bike,gone,0,10,{split}\n")


def jester(root):
    for k in range(FRAMES): jpg(root / f"20bn-jester-v1/34870/{k + 1:05}.jpg", k)
    put(root / "jester-v1-train.csv", "34870;Drumming Fingers\n")


def multisports(root):
    for k, name in enumerate(("v_a_c001", "v_b_c001")): film(root / f"trainval/football/{name}.mp4", k)
    lists = {"labels": ["shoot"], "train_videos": [["football/v_a_c001"]], "test_videos": [["football/v_b_c001"]],
             "nframes": {"football/v_a_c001": FRAMES}, "gttubes": {}}
    put(root / "trainval/multisports_GT.pkl", pickle.dumps(lists, 2))


def ava(root):
    film(root / "trainval/-5KQ66BBWC4.mkv", frames=60)
    put(root / "ava_train_v2.2.csv",
        "-5KQ66BBWC4,0002,0.077,0.151,0.283,0.811,80,1\n"
        "-5KQ66BBWC4,0002,0.2,0.1,0.3,0.8,9,1\n"
        "-5KQ66BBWC4,0003,0.077,0.151,0.283,0.811,80,1\n")


def ego4d(root):
    film(root / "full_scale/uid-1.mp4", frames=330)
    put(root / "ego4d.json", json.dumps({"videos": [{"video_uid": "uid-1", "duration_sec": 33.0, "split_fho": "train", "split_av": None},
                                                    {"video_uid": "uid-2", "duration_sec": 3.0, "split_fho": "val"}]}))


def objaverse(root):
    clear = np.zeros((H, W, 4), np.uint8)
    for k in range(FRAMES): png(root / f"views/00a1/{k:03}.png", clear)


def imagenet(root):
    for split in ("train", "val"):
        for k in range(9): jpg(root / f"{split}/n01440764/n01440764_{k}.JPEG", k)
        put(root / f"{split}/n02105855/n02105855_2933.JPEG", encoded(shade(3), "PNG"))         # the one PNG
        put(root / f"{split}/n02105855/n02105855_1.JPEG", encoded(shade(4), mode="CMYK"))      # one of the CMYK files
        put(root / f"{split}/n02105855/n02105855_2.JPEG", encoded(shade(5), mode="L"))         # grey


def coco(root):
    for k in range(3): jpg(root / f"train2017/{k:012}.jpg", k)
    images = [{"id": k, "file_name": f"{k:012}.jpg", "height": H, "width": W} for k in range(3)]
    square = {"segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]], "bbox": [4, 4, 8, 8], "area": 64.0}
    small = {"segmentation": {"size": [H, W], "counts": [5 + 5 * H, 3, H * W - 8 - 5 * H]}, "bbox": [5, 5, 1, 3], "area": 3.0}  # uncompressed run lengths
    objects = [{"image_id": 0, "category_id": 44, "iscrowd": 0, **small},
               {"image_id": 0, "category_id": 18, "iscrowd": 0, **square},
               {"image_id": 0, "category_id": 1, "iscrowd": 1, **square}]
    put(root / "annotations/instances_train2017.json", json.dumps({"images": images, "annotations": objects, "categories": []}))
    joints = [8, 8, 2, 10, 8, 1, 0, 0, 0] + [0] * 42
    people = [{"image_id": 0, "category_id": 1, "iscrowd": 0, "keypoints": joints, "num_keypoints": 2},
              {"image_id": 0, "category_id": 1, "iscrowd": 0, "keypoints": [0] * 51, "num_keypoints": 0}]
    put(root / "annotations/person_keypoints_train2017.json", json.dumps({"images": images, "annotations": people, "categories": []}))
    panoptic = [{"image_id": k, "file_name": f"{k:012}.png", "segments_info": [{"id": 513, "category_id": 200}]} for k in range(3)]
    put(root / "annotations/panoptic_train2017.json", json.dumps({"images": images, "annotations": panoptic, "categories": []}))
    for k in range(3): png(root / f"annotations/panoptic_train2017/{k:012}.png", np.broadcast_to(np.array([1, 2, 0], np.uint8), (H, W, 3)))


def ade20k(root):
    for k in range(9):
        jpg(root / f"images/training/ADE_train_{k + 1:08}.jpg", k, mode="L" if k == 2 else None)
        png(root / f"annotations/training/ADE_train_{k + 1:08}.png", np.full((H, W), (0, 1, 150)[k % 3], np.uint8))


def cityscapes(root):
    ids, objects = np.full((H, W), 7, np.uint8), np.full((H, W), 7, np.uint16)
    ids[:4], ids[8:12], objects[8:12], ids[12:], objects[12:] = 3, 26, 26001, 33, 33000
    for k in range(2):
        name = f"train/aachen/aachen_{k:06}_000019"
        png(root / f"leftImg8bit/{name}_leftImg8bit.png", shade(k))
        png(root / f"gtFine/{name}_gtFine_labelIds.png", ids)
        png(root / f"gtFine/{name}_gtFine_instanceIds.png", objects)
        png(root / f"gtFine/{name}_gtFine_color.png", shade(k))


def instructpix2pix(root):
    for seed in (1, 2):
        jpg(root / f"shard-00/0000001/{seed}_0.jpg", seed)
        jpg(root / f"shard-00/0000001/{seed}_1.jpg", seed + 10)
    put(root / "shard-00/0000001/prompt.json", "{}")
    put(root / "seeds.json", json.dumps([["0000001", ["1", "2"]], ["0000002", ["9"]]]))


def vipseg(root):
    for k in range(FRAMES):
        jpg(root / f"imgs/0_a/{k:08}.jpg", k)
        numbers = np.full((H, W), 12, np.uint16)
        numbers[:2], numbers[4:8], numbers[8:12] = 0, 6100, 6101
        png(root / f"panomasks/0_a/{k:08}.png", numbers)
    put(root / "train.txt", "0_a\n")


def sidd(root):
    for k in range(2):
        big = np.random.default_rng(k).integers(0, 256, (64, 80, 3), np.uint8)
        for kind in ("NOISY", "GT"): png(root / f"Data/000{k}_001_S6_00100/{kind}_SRGB_010.PNG", big)


def lol(root):
    for k in range(2):
        png(root / f"our485/low/{k}.png", shade(k))
        png(root / f"our485/high/{k}.png", shade(k + 10))


def vos(root, frames="train/JPEGImages/ab", masks="train/Annotations/ab"):
    for k in range(FRAMES):
        jpg(root / f"{frames}/{5 * k:05}.jpg", k)
        numbers = np.zeros((H, W), np.uint8)
        numbers[4:8], numbers[8:12], numbers[-1] = 1, 3, 255
        image = Image.fromarray(numbers)
        image.putpalette([k for c in range(256) for k in (c, 0, 0)])  # numbers in a palette's clothes
        png(root / f"{masks}/{5 * k:05}.png", image)


def davis(root):
    vos(root, "JPEGImages/480p/bear", "Annotations/480p/bear")
    put(root / "ImageSets/2017/train.txt", "bear\n")


def masks(root):
    for k in range(9):
        jpg(root / f"images/a/{k}.jpg", k)
        png(root / f"masks/a/{k}.png", np.full((H, W), k, np.uint8))


TREES = {
    "datacomp": datacomp, "ucf101": ucf101, "hmdb51": hmdb51, "moments": moments, "multi-moments": multi_moments,
    "co3d": co3d, "charades": charades, "ssv2": ssv2,
    "kinetics700": kinetics, "kinetics600": lambda root: kinetics(root, "val"),
    "jester": jester, "multisports": multisports, "charades-ego": lambda root: charades(root, "CharadesEgo"),
    "ava": ava, "ego4d": ego4d, "objaverse": objaverse, "imagenet": imagenet, "coco": coco,
    "ade20k": ade20k, "cityscapes": cityscapes, "instructpix2pix": instructpix2pix, "vipseg": vipseg,
    "sidd": sidd, "lol": lol, "youtube-vos": vos, "davis": davis,
    "pictures": lambda root: [jpg(root / f"holiday/{k}.jpg", k) for k in range(9)], "masks": masks,
    "videos": lambda root: film(root / "holiday/a.mp4"),
}
